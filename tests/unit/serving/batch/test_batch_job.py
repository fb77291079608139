"""A job from plan to report: nothing is lost, nothing is done twice, another job does not mix with it."""

from __future__ import annotations

import errno
import json
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet
import pytest
from batch_fakes import InProcess, fake_worker, job, outputs, run, write_parquet, write_tar, write_tree

from serving.batch import atomic, manifest
from serving.batch.errors import JobLocked, JobMismatch, OutputUnwritable, SourceRefused, TooManyErrors
from serving.batch.job import Tolerance
from serving.batch.options import SetBudget
from tokenizer.budget import TokenBudget
from tokenizer.coding import Coding
from tokenizer.errors import InvalidBudget
from tokenizer.sequence import TokenSequence

SINKS = ("parquet", "webdataset", "folder")
BUDGETS = ({}, {"max_tokens": 40}, {"set_budget": SetBudget(600)})


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_a_job_stopped_anywhere_ends_as_one_that_was_not(tmp_path, sink, budget):
    source = write_tar(tmp_path / "a.tar", 11, bad=(4, 5, 6))
    run(tmp_path / "whole", source, sink=sink, **budget)
    for stop in range(9):
        folder = tmp_path / str(stop)
        engine = InProcess(stop)
        try:
            run(folder, source, engine, sink=sink, **budget)
        except KeyboardInterrupt:
            (folder / ".part-000000.x.1.tmp").write_bytes(b"half")
            again = InProcess()
            run(folder, source, again, sink=sink, **budget)
            passes = 2 if "set_budget" in budget else 1
            assert max(Counter(engine.ran + again.ran).values()) == passes
            assert len(engine.ran + again.ran) == 4 * passes
        assert outputs(folder) == outputs(tmp_path / "whole")
        assert not list(folder.rglob("*.tmp")) and not (folder / "wholes").exists()


def test_parquet_has_a_row_for_every_sample_in_order_with_tokens_or_error(tmp_path):
    source = write_tar(tmp_path / "a.tar", 7, bad=(2,))
    totals = run(tmp_path / "out", source, max_tokens=50, coding=Coding.FIXED)
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "data").to_pylist()
    assert [row["key"] for row in rows] == [f"x/{n:03d}" for n in range(7)]
    assert [row["error"] for row in rows] == [None, None, "IMAGE_FORMAT_UNSUPPORTED", None, None, None, None]
    good = rows[0]
    assert len(good["token_ids"]) == good["length"] == 50
    assert (good["width_px"], good["height_px"], good["coding"]) == (12, 9, "fixed")
    assert good["fingerprint"] == "00c0ffee" and 10 < good["predicted_psnr_db"] < 30
    assert rows[2]["token_ids"] is None and rows[2]["length"] is None
    assert (totals.pictures, totals.errors) == (6, 1)


def test_errors_are_listed_with_source_key_and_reason(tmp_path):
    source = write_parquet(tmp_path / "b.parquet", 5)
    run(tmp_path / "out", source)
    (line,) = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    error = json.loads(line)
    assert (error["source"], error["key"], error["reason"]) == (str(source), "b#4", "IMAGE_MISSING")


def test_a_webdataset_keeps_the_other_fields_and_adds_the_stream(tmp_path):
    source = write_tar(tmp_path / "a.tar", 4, bad=(1,))
    for name, budget in (("each", {"max_bytes": 60}), ("set", {"set_budget": SetBudget(300)})):
        run(tmp_path / name, source, sink="webdataset", **budget)
        with tarfile.open(tmp_path / name / "data" / "part-000000.tar") as shard:
            assert shard.getnames() == [
                f"x/{key}{ending}" for key in ("000", "002") for ending in (".png", ".cls", ".tsr")
            ]
            stream = TokenSequence.from_bytes(shard.extractfile("x/002.tsr").read())
        assert 0 < stream.length <= 192


def test_a_folder_keeps_pictures_of_one_stem_apart(tmp_path):
    source = write_tree(tmp_path / "tree", 2)
    (source / "a" / "000.jpg").write_bytes((source / "a" / "000.png").read_bytes())
    run(tmp_path / "out", source, sink="folder")
    names = [name for name in outputs(tmp_path / "out") if name.endswith(".tsr")]
    assert names == ["data/a/000.jpg.tsr", "data/a/000.png.tsr", "data/b/001.png.tsr"]


def test_a_total_for_the_set_is_spent_to_the_byte(tmp_path):
    source = write_tree(tmp_path / "tree", 10)
    totals = run(tmp_path / "out", source, set_budget=SetBudget(777))
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "data").to_pylist()
    assert sum(row["length"] for row in rows) == totals.tokens == totals.size_bytes == 777


def test_a_total_that_is_too_small_is_refused_with_the_least(tmp_path):
    source = write_tree(tmp_path / "tree", 5)
    with pytest.raises(InvalidBudget, match="the least they take is 5"):
        run(tmp_path / "out", source, set_budget=SetBudget(4))


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("budget", BUDGETS, ids=["all", "each", "set"])
def test_a_full_disk_ends_the_job_and_leaves_no_half_file(tmp_path, monkeypatch, sink, budget):
    source = write_tar(tmp_path / "a.tar", 5, bad=(4,))
    writes = []
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_sync", writes.append)
        run(tmp_path / "whole", source, sink=sink, **budget)
    wanted = every_file(tmp_path / "whole")
    for number, place in enumerate(writes):
        if not place.name.endswith(atomic.DRAFT_ENDING):
            continue
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "_sync", FullDisk(number))
            with pytest.raises(OutputUnwritable) as ended:
                run(folder, source, sink=sink, **budget)
        assert "No space left" in str(ended.value) and f"stays in {folder}: make room" in str(ended.value)
        assert not list(folder.rglob("*.tmp"))
        written = every_file(folder)
        assert {name: data for name, data in written.items() if name in wanted}.items() <= wanted.items()
        run(folder, source, sink=sink, **budget)
        assert every_file(folder) == wanted


class FullDisk:
    """In the place of `atomic._sync`: of one file only half is there."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, path: Path) -> None:
        if self.left == 0:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= 1


def every_file(folder: Path) -> dict[str, bytes]:
    """All of the job but what tells seconds, and what is kept between two passes."""
    files = (path for path in folder.rglob("*.*") if path.is_file() and path.name != "report.json")
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith("wholes/")}


@pytest.mark.parametrize(
    ("change", "named"), [({"max_tokens": 9}, "options.max_tokens"), ({"unit_size": 2}, "options.unit_size")]
)
def test_a_job_with_other_options_is_refused_and_says_which(tmp_path, change, named):
    source = write_tree(tmp_path / "tree", 4)
    run(tmp_path / "out", source)
    with pytest.raises(JobMismatch, match=named):
        run(tmp_path / "out", source, **change)


def test_a_job_over_other_pictures_is_refused(tmp_path):
    source = write_tree(tmp_path / "tree", 4)
    run(tmp_path / "out", source)
    write_tree(source, 5)
    with pytest.raises(JobMismatch, match="plan"):
        run(tmp_path / "out", source)


def test_pictures_that_change_after_the_plan_end_the_job(tmp_path):
    source = write_tree(tmp_path / "tree", 7)
    one = job(tmp_path / "out", source)
    write_tree(source, 8)
    with pytest.raises(SourceRefused, match="have changed since the job began"):
        one.run()


@pytest.mark.parametrize(("column", "kind"), [("list", list), ("binary", bytes)])
def test_the_column_of_tokens_is_of_the_type_that_was_asked_for(tmp_path, column, kind):
    run(tmp_path / "out", write_tree(tmp_path / "tree", 4), token_column=column, max_tokens=9)
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "data").to_pylist()
    assert [(type(row["token_ids"]), len(row["token_ids"])) for row in rows] == [(kind, 9)] * 4


def test_a_folder_with_strange_files_is_refused(tmp_path):
    source = write_tree(tmp_path / "tree", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(JobMismatch, match=r"thesis\.tex"):
        run(tmp_path / "out", source)


def test_two_processes_do_not_share_a_job(tmp_path):
    source = write_tree(tmp_path / "tree", 2)
    with manifest.locked(tmp_path / "out"), pytest.raises(JobLocked):
        run(tmp_path / "out", source)


def test_a_job_that_is_done_does_nothing_again(tmp_path):
    source = write_tree(tmp_path / "tree", 5)
    first = run(tmp_path / "out", source)
    engine = InProcess()
    assert run(tmp_path / "out", source, engine).as_json() == first.as_json()
    assert engine.ran == []


def test_fail_fast_ends_at_the_first_bad_picture(tmp_path):
    source = write_tar(tmp_path / "a.tar", 9, bad=(4,))
    engine = InProcess()
    one = job(tmp_path / "out", source, engine)
    with pytest.raises(TooManyErrors, match="IMAGE_FORMAT_UNSUPPORTED"):
        type(one)(one.settings, one.plan, one.units, engine, Tolerance(fail_fast=True)).run()
    assert engine.ran == [0, 1]


def test_too_large_a_share_of_bad_pictures_ends_the_job(tmp_path):
    source = write_tar(tmp_path / "a.tar", 210, bad=tuple(range(0, 210, 10)))
    one = job(tmp_path / "out", source)
    with pytest.raises(TooManyErrors, match=r"allowed are 5\.0%"):
        type(one)(one.settings, one.plan, one.units, InProcess(), Tolerance(max_error_rate=0.05)).run()
    type(one)(one.settings, one.plan, one.units, InProcess(), Tolerance(max_error_rate=0.15)).run()


def test_a_unit_done_twice_leaves_the_same_shard(tmp_path):
    one = job(tmp_path / "out", write_tree(tmp_path / "tree", 4))
    one.run()
    before = outputs(tmp_path / "out")
    worker = fake_worker(one.settings)
    for unit in one.units():
        worker.run(unit)
    assert outputs(tmp_path / "out") == before


def test_the_budget_of_each_picture_is_that_of_the_library(tmp_path):
    options = job(tmp_path / "out", write_tree(tmp_path / "tree", 1), min_psnr_db=20.0, coverage=0.95)
    assert options.settings.options.budget == TokenBudget(min_psnr_db=20.0, coverage=0.95)
