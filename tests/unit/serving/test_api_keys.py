"""The keys file: what it may say, and that no error about it shows what it says."""

from __future__ import annotations

import re

import pytest

from serving.api_keys import KEY_PATTERN, Scope, hash_of, new_key, parse_keys
from serving.reloaded_files import SetupError

# Fixed, since it is in the names of tests, which two processes must agree on.
KEY = "tsr_" + "0a" * 32


def entry(**changes: str) -> str:
    fields = {"name": '"shop"', "sha256": f'"{hash_of(KEY)}"', "scopes": '["encode"]'} | changes
    return "[[keys]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items())


def parse(text: str):
    return parse_keys((text.encode(),))


def test_an_entry_says_who_may_do_what_until_when_and_how_often():
    (key,) = parse(entry(expires="2030-01-01T00:00:00+02:00", pictures_per_s="20", burst_s="2.5"))
    assert (key.name, key.scopes, key.pictures_per_s, key.burst_s) == ("shop", {Scope.ENCODE}, 20, 2.5)
    assert not key.has_expired
    assert parse(entry(expires="2020-01-01T00:00:00Z"))[0].has_expired


def test_keys_differ_and_look_like_keys_of_ours():
    assert KEY_PATTERN.fullmatch(KEY) and new_key() != KEY


def test_no_keys_must_be_said_so_that_an_empty_file_is_a_mistake():
    assert parse("keys = []") == ()
    with pytest.raises(SetupError, match="keys: must be given"):
        parse("")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[keys]\n", "no TOML"),
        (entry(name='"Shop 1"'), r"keys\.0\.name"),
        (entry(name='"shop\\nevil"'), r"keys\.0\.name"),
        (entry(sha256=f'"{KEY}"'), r"keys\.0\.sha256"),
        (entry(scopes='["encode", "everything"]'), r"keys\.0\.scopes\.1: must be 'encode', 'decode'"),
        (entry(scopes="[]"), r"keys\.0\.scopes: must have at least 1"),
        (entry(expires="2030-01-01T00:00:00"), "must have a time zone"),
        (entry(pictures_per_s="0"), "must be above 0"),
        (entry(megapixels_per_s="inf"), "finite"),
        (entry(key=f'"{KEY}"'), r"keys\.0: a field that does not exist"),
        (f"{KEY} = 1\nkeys = []", "top level: a field that does not exist"),
        (entry() + entry(), "1 name more than once"),
        (entry() + entry(name='"other"'), "1 sha256 more than once"),
        ("\udcff", "no TOML"),
    ],
)
def test_a_mistake_is_named_by_its_place_and_never_quoted(text, says):
    with pytest.raises(SetupError, match=says) as caught:
        parse_keys((text.encode(errors="surrogateescape"),))
    assert not re.search(r"tsr_|[0-9a-f]{32}", str(caught.value))
