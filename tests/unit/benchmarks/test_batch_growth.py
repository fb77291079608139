"""Sizes of batch jobs are held against each other by jobs that ran next to each other."""

from __future__ import annotations

import pytest

from benchmarks.batch_growth import summary
from benchmarks.batch_job import JobRun


def runs(pictures: int, *ms: float) -> list[JobRun]:
    return [JobRun(seconds=9.0, pictures=pictures, first_s=1.0, ms_per_picture=one) for one in ms]


def test_a_machine_that_slows_down_is_not_a_job_that_grows():
    found = summary([runs(10, 2.0, 3.0, 4.0), runs(100, 2.0, 3.0, 4.0), runs(1000, 2.5)])
    assert [one.share for one in found] == pytest.approx([1.0, 1.0, 1.0])


def test_each_size_is_told_against_the_smallest():
    found = summary([runs(10, 2.0, 2.0, 2.0), runs(100, 3.0, 3.0, 3.0), runs(1000, 6.0)])
    assert [one.share for one in found] == pytest.approx([1.0, 1.5, 3.0])
    assert found[2].ms == [6.0]
