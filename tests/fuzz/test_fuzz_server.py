"""Hostile bytes against a server process with the shipped model. The long form is `make test-fuzz`."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from benchmarks.hostile.cases import Arsenal, all_methods
from benchmarks.server_process import running_server
from benchmarks.serving_fuzz import besiege


@pytest.fixture(scope="module")
def server():
    with running_server("default") as server:
        yield server


def test_hostile_bytes_get_a_result_or_a_typed_refusal(server):
    siege = besiege(server, messages=400, every=40, seed=1)
    assert siege.breaches == []
    assert sum(phase.verdict.count for phase in siege.phases) > 450
    reached = sum((phase.verdict.reasons for phase in siege.phases), Counter())
    assert {"REQUEST_MALFORMED", "IMAGE_CORRUPT", "CODESTREAM_MALFORMED", "ENUM_UNKNOWN"} <= reached.keys()


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_twenty_thousand_messages_and_every_cut_get_a_result_or_a_typed_refusal(server):
    siege = besiege(server, messages=20_000, every=1, seed=random.randrange(2**32))
    assert siege.breaches == []
    growth_mib = siege.phases[0].resident_mib - siege.resident_before_mib
    assert growth_mib < 300, "the limit of pictures in work, and what one batch needs"


def test_a_seed_gives_the_same_messages_again():
    first, second = (list(Arsenal(7, "0011aabb").mixed(50)) for _ in range(2))
    assert first == second
    assert first != list(Arsenal(8, "0011aabb").mixed(50))


def test_every_rpc_is_attacked():
    attacked = {case.method.path.rpartition("/")[2] for case in Arsenal(0, "0011aabb").mixed(500)}
    assert attacked == {method.name for method in all_methods()}
