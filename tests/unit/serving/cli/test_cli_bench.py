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
    ],
)
def test_nonsense_is_a_usage_error(arguments, said):
    ran = Ran("bench", *arguments)
    assert ran.code == 2
    assert said in ran.err
