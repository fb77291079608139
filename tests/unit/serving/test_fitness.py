"""Fitness by itself: when a server tests itself, and what it says of the verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from serving.fitness import Fitness
from serving.status import (
    DeadlinePassed,
    DecoderLost,
    DeviceMemoryFull,
    InvalidRequest,
    QueueFull,
    is_our_failure,
)
from tokenizer.errors import ImageCorrupt

RETEST_S = 0.01


class Trial:
    """A Fitness whose tests have these verdicts, the last one for good; what it announced."""

    def __init__(self, *verdicts: bool | None, retest_s: float = RETEST_S) -> None:
        self.tests = 0
        self.said: list[bool] = []
        self._verdicts: Iterator[bool | None] = iter(verdicts)
        self._last = verdicts[-1]
        self.fitness = Fitness(self._test, self._announce, retest_s=retest_s)

    async def _test(self) -> bool | None:
        self.tests += 1
        return next(self._verdicts, self._last)

    async def _announce(self, is_fit: bool) -> None:
        self.said.append(is_fit)


async def settled() -> None:
    await asyncio.sleep(10 * RETEST_S)


async def test_a_server_that_passes_its_test_says_nothing():
    trial = Trial(True)
    trial.fitness.suspect()
    await settled()
    assert (trial.tests, trial.said) == (1, [])


async def test_one_failed_test_may_be_chance():
    trial = Trial(False, True)
    trial.fitness.suspect()
    await settled()
    assert (trial.tests, trial.said) == (2, [])


async def test_two_failed_tests_take_it_out_of_service_and_one_passed_brings_it_back():
    trial = Trial(False, False, False, None, True)
    trial.fitness.suspect()
    await settled()
    assert trial.said == [False, False, False, True]
    assert trial.tests == 5


async def test_a_test_that_says_nothing_changes_nothing():
    trial = Trial(None)
    trial.fitness.suspect()
    await settled()
    assert (trial.tests, trial.said) == (1, [])


async def test_a_passed_test_is_believed_for_a_while():
    trial = Trial(True, retest_s=60)
    for _ in range(3):
        trial.fitness.suspect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert trial.tests == 1


async def test_a_server_that_stops_tests_no_more():
    trial = Trial(False)
    trial.fitness.suspect()
    await settled()
    await trial.fitness.stop()
    said = len(trial.said)
    trial.fitness.suspect()
    await settled()
    assert len(trial.said) == said


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (RuntimeError("the graph"), True),
        (MemoryError(), True),
        (DecoderLost("killed"), True),
        (DeviceMemoryFull("no memory"), True),
        (ImageCorrupt("a crash in libpng"), False),
        (InvalidRequest("no"), False),
        (QueueFull("full", bound="queue_items", retry_after_s=1), False),
        (DeadlinePassed("late"), False),
    ],
)
def test_what_a_caller_caused_or_load_is_no_reason_to_doubt_the_server(error, ours):
    assert is_our_failure(error) is ours
