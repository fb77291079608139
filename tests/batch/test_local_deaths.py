"""Processes that die: a worker costs time, a picture that kills costs itself, a job leaves no orphans."""

from __future__ import annotations

import os
import signal

import pyarrow.parquet
import pytest
from job_process import (
    command_line,
    drafts,
    finish,
    outputs,
    reports,
    start,
    wait_for_reports,
    wait_until,
    workers,
    write_pictures,
)
from killer_worker import GUILTY, make_broken, make_killer, make_stillborn

from serving.batch.encode_job import encode_data_set
from serving.batch.engines import LocalEngine
from serving.batch.errors import BatchError, WorkerLost
from serving.batch.options import EncodeOptions

OPTIONS = ("--shard-size", 3, "--workers", 2)


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path, pictures, undisturbed):
    job = start(pictures, "--out", tmp_path / "out", *OPTIONS)
    wait_for_reports(tmp_path / "out", 2, job)
    before = reports(tmp_path / "out")
    os.kill(workers(job)[0], signal.SIGKILL)
    code, _, errors = finish(job)
    assert code == 0, errors
    assert outputs(tmp_path / "out") == outputs(undisturbed)
    assert before.items() <= reports(tmp_path / "out").items()
    assert drafts(tmp_path / "out") == []


def test_a_job_that_is_killed_alone_takes_its_workers_with_it(tmp_path, pictures):
    job = start(pictures, "--out", tmp_path / "out", *OPTIONS)
    wait_for_reports(tmp_path / "out", 1, job)
    left = workers(job)
    job.kill()
    job.communicate()
    assert len(left) == 2
    wait_until(lambda: not any("spawn_main" in command_line(pid) for pid in left), "workers end")


def encode(folder, source, make):
    options = EncodeOptions((str(source),), unit_size=3, max_tokens=20)
    return encode_data_set(folder, options, LocalEngine(2, make))


def test_a_picture_that_kills_every_process_becomes_an_error_and_stands_alone(tmp_path):
    source = write_pictures(tmp_path / "pictures", 9)
    totals = encode(tmp_path / "out", source, make_killer)
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "data").to_pylist()
    assert {row["key"]: row["error"] for row in rows if row["error"]} == {GUILTY: "WORKER_CRASHED"}
    assert len(rows) == 9 and totals.reasons == {"WORKER_CRASHED": 1}
    assert drafts(tmp_path / "out") == []


def test_workers_that_never_get_ready_end_the_job(tmp_path):
    with pytest.raises(WorkerLost, match="while they load the model"):
        encode(tmp_path / "out", write_pictures(tmp_path / "pictures", 9), make_stillborn)


def test_an_error_of_a_worker_arrives_even_if_it_does_not_pickle(tmp_path):
    with pytest.raises(BatchError, match="Unportable: no such thing"):
        encode(tmp_path / "out", write_pictures(tmp_path / "pictures", 3), make_broken)
