"""What a client may send where: no key travels in the clear, and no error shows one."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.api_keys import new_key
from serving.client_credentials import ClientTls, access_to

KEY = new_key()


@pytest.mark.parametrize(
    "target",
    ["localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "ipv4:127.0.0.1:1", "dns:///localhost:1",
     "ipv6:[::1]:1", "unix:/run/tessera.sock", "localhost"],
)  # fmt: skip
def test_a_key_may_travel_in_the_clear_within_this_machine(target):
    access = access_to(target, key=KEY)
    assert access.metadata == (("authorization", f"Bearer {KEY}"),)
    assert KEY not in repr(access)


@pytest.mark.parametrize(
    "target",
    ["10.0.0.1:1", "tessera.example:1", "dns:///tessera.example:1", "localhost.example:1", "[2001:db8::1]:1",
     "ipv4:127.0.0.1:1,10.0.0.1:1", "dns://127.0.0.1/tessera.example:1", ""],
)  # fmt: skip
def test_a_key_beyond_this_machine_needs_tls_or_an_explicit_word(target):
    with pytest.raises(ValueError, match="without TLS") as caught:
        access_to(target, key=KEY)
    assert KEY not in str(caught.value)
    assert access_to(target, key=KEY, allow_insecure_key=True).metadata
    with_tls = access_to(target, key=KEY, tls=ClientTls())
    assert with_tls.credentials is not None and with_tls.metadata == ()


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "ключ", "a" * 513])
def test_what_no_header_can_carry_is_refused_without_showing_it(key):
    with pytest.raises(ValueError, match="the key is empty, too long") as caught:
        access_to("localhost:1", key=key)
    assert not key or key not in str(caught.value)


def test_half_a_client_certificate_is_refused():
    with pytest.raises(ValueError, match="go together"):
        ClientTls(certificate_file=Path("cert.pem"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"nowhere\.pem"):
        access_to("localhost:1", tls=ClientTls(ca_file=tmp_path / "nowhere.pem"))


def test_without_key_and_tls_nothing_is_added():
    access = access_to("anywhere:1")
    assert (access.credentials, access.options, access.metadata) == (None, (), ())
