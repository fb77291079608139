"""What the benchmark of batch jobs reads off a job."""

from __future__ import annotations

import json

import pytest

from benchmarks.batch_job import _Reports, ms_per_picture


def shards(count: int, workers: int, stagger_s: float) -> list[tuple[float, int]]:
    """A job whose every shard of 100 pictures takes one process one second."""
    free = [7 + worker * stagger_s for worker in range(workers)]
    done = []
    for _ in range(count):
        first = min(range(workers), key=free.__getitem__)
        free[first] += 1
        done.append((free[first], 100))
    return sorted(done)


@pytest.mark.parametrize("stagger_s", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("count", [10, 100, 1000])
def test_an_even_job_costs_the_same_per_picture_however_long_it_is(count, stagger_s):
    assert ms_per_picture(shards(count, 2, stagger_s)) == pytest.approx(1000 / 200, rel=0.04)


def test_reports_are_counted_as_they_come(tmp_path):
    reports = _Reports(tmp_path)
    assert reports.pictures() == 0
    for index in range(3):
        content = {"pictures": index, "errors": [{}]}
        (tmp_path / f"{index:06d}.json").write_text(json.dumps(content))
        (tmp_path / ".000009.json.tmp").write_text("{")
        assert reports.pictures() == sum(range(index + 1)) + index + 1
