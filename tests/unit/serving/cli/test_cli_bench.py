"""`tessera bench`: nonsense is a usage error before anything is sent."""

from __future__ import annotations

import pytest
from cli_fakes import Ran


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "clients"),
        (("--clients", "1", "--rate", "2"), "not both"),
        (("--clients", "0"), "clients must be"),
        (("--rate", "nan"), "rate must be"),
        (("--rate", "5", "--arrivals", "sometimes"), "arrivals"),
        (("--clients", "1", "--mix", "paint"), "paint"),
        (("--clients", "1", "--sizes", "big"), "640x480"),
        (("--clients", "1", "--formats", "gif"), "gif"),
        (("--clients", "1", "--images", "no/such/folder"), "no folder"),
        (("--clients", "1", "--slo-ms", "2000", "--deadline-ms", "1000"), "deadline"),
        (("--clients", "1", "--duration", "-1"), "duration"),
        (("--clients", "1", "--ca-file", "no/such.pem"), "no/such.pem"),
        (("--clients", "1", "--client-cert", "no/such.pem"), "--client-key"),
    ],
)
def test_nonsense_is_a_usage_error(arguments, said):
    ran = Ran("bench", *arguments)
    assert ran.code == 2
    assert said in ran.err


def test_a_key_is_not_sent_in_the_clear(monkeypatch):
    monkeypatch.setenv("TESSERA_KEY", "tsk_secret")
    ran = Ran("bench", "--clients", "1", "--sizes", "8x8", "--target", "far.example:1")
    assert ran.code == 2
    assert "without TLS" in ran.err and "tsk_secret" not in ran.err
