"""What the log says at the start about who may call."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from serving import security
from serving.security_settings import SecuritySettings


@pytest.mark.parametrize(("host", "warnings"), [("0.0.0.0", 1), ("10.0.0.1", 1), ("127.0.0.1", 0)])
def test_an_address_that_anybody_reaches_without_tls_and_keys_is_warned_about(monkeypatch, host, warnings):
    said: list[str] = []
    monkeypatch.setattr(security, "_log", SimpleNamespace(warning=lambda text, **_facts: said.append(text)))
    security.Security(SecuritySettings(), CollectorRegistry(), {}, lambda method, reason: None).open(host)
    assert said == ["neither TLS nor keys: whoever reaches this address may call"] * warnings
