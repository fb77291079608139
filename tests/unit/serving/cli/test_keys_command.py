"""`tessera keys`: what it prints where, and that its entry is what a server reads."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from serving.api_keys import hash_of, parse_keys
from serving.cli.app import app

SCOPES = ["--scope", "encode", "--scope", "truncate"]


def run(*arguments):
    return CliRunner().invoke(app, ["keys", *map(str, arguments)])


def test_the_entry_goes_to_stdout_and_the_key_only_to_stderr():
    done = run("new", "--name", "shop", *SCOPES)
    assert done.exit_code == 0
    (key,) = re.findall(r"tsr_[0-9a-f]{64}", done.stderr)
    assert "tsr_" not in done.stdout
    (entry,) = parse_keys((done.stdout.encode(),))
    assert (entry.name, entry.sha256) == ("shop", hash_of(key))
    assert {scope.value for scope in entry.scopes} == {"encode", "truncate"}


def test_every_option_comes_back_from_the_file(tmp_path):
    limits = ("--pictures-per-s", 2.5, "--megapixels-per-s", 1e-7, "--burst-s", 30)
    done = run("new", "--name", "shop", *SCOPES, "--expires-in-days", 30, *limits)
    (entry,) = parse_keys((done.stdout.encode(),))
    assert (entry.pictures_per_s, entry.megapixels_per_s, entry.burst_s) == (2.5, 1e-7, 30)
    assert entry.expires is not None and not entry.has_expired


def test_entries_one_after_the_other_are_a_file(tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text("".join(run("new", "--name", name, *SCOPES).stdout for name in ("one", "two")))
    done = run("check", file)
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        ["one: encode, truncate; no expiry", "two: encode, truncate; no expiry"],
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--name", "Shop"), "name"),
        (("--name", 'x"\nsha256 = "'), "name"),
        (("--name", "shop", "--scope", "everything"), "scopes"),
        (("--name", "shop", "--pictures-per-s", 0), "pictures_per_s"),
        (("--name", "shop", "--burst-s", "nan"), "burst_s"),
        (("--name", "shop", "--expires-in-days", 0), "expires-in-days"),
    ],
)
def test_what_no_server_would_take_is_wrong_use_and_makes_no_key(options, says):
    done = run("new", *SCOPES, *options)
    assert done.exit_code == 2
    assert says in done.stderr and "tsr_" not in done.output and not done.stdout


def test_check_names_what_is_wrong_and_never_quotes_the_file(tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text('[[keys]]\nname = "shop"\nsha256 = "tsr_secret"\nscopes = ["encode"]\n')
    done = run("check", file)
    assert done.exit_code == 1
    assert "keys.0.sha256" in done.stderr and "tsr_secret" not in done.output
    assert run("check", tmp_path / "nowhere.toml").exit_code == 1
