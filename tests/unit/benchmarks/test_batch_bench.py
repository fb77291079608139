"""What the benchmark of batch jobs reads off a job."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image

from benchmarks.batch_job import _Reports, ms_per_picture
from benchmarks.batch_odd import OddRun, bad_files, odd_section, picture_files


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


def test_bad_files_are_those_that_the_library_refuses(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.JPG").write_text("<!doctype html>")
    (tmp_path / "manifest.json").write_text("{}")
    assert len(list(picture_files(tmp_path))) == 3
    assert sum(bad_files(tmp_path).values()) == 2


def test_a_job_over_odd_files_is_right_only_if_every_bad_one_is_counted():
    right = OddRun("odd", 9, 9, 3, {"IMAGE_MALFORMED": 2}, {"IMAGE_MALFORMED": 2})
    assert right.is_right and replace(right, exit_code=0, errors={}, bad_files={}).is_right
    for wrong in ({"exit_code": 0}, {"rows": 8}, {"errors": {"IMAGE_MALFORMED": 1}}, {"errors": {"X": 2}}):
        assert not replace(right, **wrong).is_right
    assert "2 errors of 2 files that are bad, exit code 3 (3 expected)" in odd_section(right)
