"""A worker that dies costs time; a picture over which workers die again and again becomes an error."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet
import pytest
from batch_fakes import fake_worker, job, write_tree

from serving.batch import encoder
from serving.batch.atomic import write_json
from serving.batch.crashes import CrashRecord, run_recorded, trail_path
from serving.batch.errors import WorkerLost


class Killed(BaseException):
    """Stands for the death of a process: nothing after it runs."""


@pytest.fixture
def one(tmp_path):
    return job(tmp_path / "out", write_tree(tmp_path / "tree", 6), unit_size=6)


def tries_until_done(one, kill, monkeypatch, most: int = 30) -> int:
    """Run the only unit until it is done; `kill(key, number of the try)` says where a process dies."""
    real, (unit,) = encoder.read_image, one.units()
    keys = {Path(unit.source, key).read_bytes(): key for key in unit.members}
    worker = fake_worker(one.settings)
    for number in range(1, most):

        def read(data, number=number):
            if kill(keys[data], number):
                raise Killed
            return real(data)

        monkeypatch.setattr(encoder, "read_image", read)
        try:
            run_recorded(worker, unit, one.settings.folder)
        except Killed:
            continue
        return number
    raise AssertionError("never done")


def rows(one) -> list[dict]:
    return pyarrow.parquet.read_table(one.settings.folder / "data" / "part-000000.parquet").to_pylist()


def test_a_picture_that_kills_every_process_becomes_an_error_and_the_others_are_written(one, monkeypatch):
    guilty = "a/004.png"
    tries = tries_until_done(one, lambda key, _: key == guilty, monkeypatch)
    errors = {row["key"]: row["error"] for row in rows(one) if row["error"]}
    assert errors == {guilty: "WORKER_CRASHED"} and len(rows(one)) == 6
    assert tries == 4  # as usual, suspected, convicted, done
    assert not list(one.settings.folder.glob(".part*"))


def test_deaths_over_different_pictures_convict_none(one, monkeypatch):
    deaths = {1: "a/000.png", 2: "b/001.png", 3: "a/002.png", 4: "b/003.png"}
    tries_until_done(one, lambda key, number: deaths.get(number) == key, monkeypatch)
    assert [row["error"] for row in rows(one)] == [None] * 6


def test_a_unit_that_can_never_be_done_ends_the_job(one, monkeypatch):
    def dies(self, *_):
        raise Killed

    worker = fake_worker(one.settings)
    monkeypatch.setattr(type(worker), "run", dies)
    (unit,) = one.units()
    with pytest.raises(WorkerLost, match="is there enough memory"):
        for _ in range(100):
            try:
                run_recorded(worker, unit, one.settings.folder)
            except Killed:
                continue


def test_only_the_same_picture_twice_in_a_row_is_guilty(one):
    (unit,) = one.units()
    record = CrashRecord()
    for picture in (3, 5, 3):
        record = record.after_death(picture, unit)
    assert record.guilty == () and record.suspect == 3
    assert record.after_death(3, unit).guilty == (3,)


def test_a_job_that_begins_again_holds_nothing_against_a_picture(one):
    (unit,) = one.units()
    folder, record = one.settings.folder, CrashRecord().after_death(2, unit)
    folder.mkdir()
    write_json(folder / f".{unit.name}.tries.tmp", asdict(record))
    trail_path(folder, unit).write_text("2")
    one.run()
    assert [row["error"] for row in rows(one)] == [None] * 6
    assert not list(folder.glob(".part*"))
