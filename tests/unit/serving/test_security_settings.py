"""Half a protection is refused: it would look like one, and be none."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serving.config import ServingConfig
from serving.security_settings import is_loopback

CERT = {"tls_cert_file": "c.pem", "tls_key_file": "k.pem"}
KEYS = {"auth_keys_file": "keys.toml"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tls_cert_file": "c.pem"}, "go together"),
        ({"tls_key_file": "k.pem"}, "go together"),
        ({"tls_client_ca_file": "ca.pem"}, "needs tls_cert_file"),
        ({"rate_limit_pictures_per_s": 1}, "needs auth_keys_file"),
        ({"rate_limit_megapixels_per_s": 1}, "needs auth_keys_file"),
        ({"allow_insecure_keys": True}, "without auth_keys_file"),
        ({"open_reflection": True}, "without auth_keys_file"),
        (KEYS | {"rate_limit_pictures_per_s": 0}, "greater than 0"),
        (KEYS | {"host": "0.0.0.0"}, "everybody on the way could read the keys"),
        (KEYS | {"host": "10.1.2.3"}, "allow_insecure_keys"),
        (KEYS | {"host": "tessera.example"}, "allow_insecure_keys"),
        ({"decode_isolation": "container"}, "thread"),
    ],
)
def test_settings_that_protect_nothing_are_refused(settings, says):
    with pytest.raises(ValidationError, match=says):
        ServingConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        CERT | KEYS | {"host": "0.0.0.0"},
        KEYS | {"host": "127.0.0.1"},
        KEYS | {"host": "localhost"},
        KEYS | {"host": "[::1]"},
        KEYS | {"host": "0.0.0.0", "allow_insecure_keys": True},
    ],
)
def test_keys_that_nobody_can_overhear_are_taken(settings):
    assert ServingConfig(**settings).auth_keys_file


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "::", "10.0.0.1", "example.com", ""])
def test_what_a_network_reaches_is_no_loopback(host):
    assert not is_loopback(host)
