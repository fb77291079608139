"""How a whole job ends: killed, stopped, on a full disk, over odd files. It always goes on where it was."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time

import pyarrow.parquet
import pytest
from job_process import (
    command_line,
    drafts,
    finish,
    kill_group,
    mount,
    odd_pictures,
    outputs,
    reports,
    run,
    shards,
    small_file_system,
    start,
    wait_for_reports,
    workers,
    write_pictures,
)

OPTIONS = ("--shard-size", 3, "--workers", 2)
KILLS = 10
# Dies by its own hand once the draft of the final report is written, before it gets its name.
DIES_AT_THE_REPORT = """
import os, signal
from serving.batch import atomic
sync = atomic._sync
def killed(path):
    if "report.json" in path.name:
        os.killpg(0, signal.SIGKILL)
    sync(path)
atomic._sync = killed
from serving.cli import main
main()
"""


def killed_and_resumed(out, source, options, kills: int, units: int) -> None:
    """Kill the whole group some time after every so many units; no report is ever written twice."""
    draw, seen = random.Random(str(out.name)), {}
    for kill in range(kills):
        job = start(source, "--out", out, *options)
        wait_for_reports(out, draw.randint(kill * units // kills, (kill + 1) * units // kills), job)
        time.sleep(draw.uniform(0, 0.3))
        kill_group(job)
        assert seen.items() <= reports(out).items()
        seen = reports(out)
    code, _, errors = run(source, "--out", out, *options)
    assert code == 0, errors
    assert seen.items() <= reports(out).items()
    assert drafts(out) == []


def test_a_killed_job_goes_on_and_ends_as_if_nothing_had_been(tmp_path, pictures, undisturbed):
    out = tmp_path / "out"
    killed_and_resumed(out, pictures, OPTIONS, 1, 12)
    assert outputs(out) == outputs(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--to", "webdataset", "--max-bytes", 300),
        ("--to", "folder", "--coding", "fixed"),
        ("--total-bytes", 20_000),
    ],
    ids=["parquet", "webdataset", "folder", "set"],
)
def test_ten_kills_at_random_moments_leave_the_output_of_an_undisturbed_job(tmp_path, many_pictures, options):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(many_pictures, "--out", whole, *OPTIONS, *options)[0] == 0
    killed_and_resumed(out, many_pictures, (*OPTIONS, *options), KILLS, 24)
    assert outputs(out) == outputs(whole)
    assert not (out / "wholes").exists()


def test_a_kill_while_the_final_report_is_written_is_made_good(tmp_path, pictures, undisturbed):
    out = tmp_path / "out"
    job = start(pictures, "--out", out, *OPTIONS, code=DIES_AT_THE_REPORT)
    assert finish(job)[0] == -signal.SIGKILL
    before = reports(out)
    assert len(before) == 12 and not (out / "report.json").exists() and drafts(out)
    assert run(pictures, "--out", out, *OPTIONS)[0] == 0
    assert reports(out) == before and outputs(out) == outputs(undisturbed) and drafts(out) == []
    found, wanted = (json.loads((folder / "report.json").read_text()) for folder in (out, undisturbed))
    assert found.pop("this_run")["pictures"] == 0 and wanted.pop("this_run")["pictures"] == 36
    assert found == wanted


@pytest.mark.parametrize(
    ("whom", "sent", "code"), [("group", signal.SIGINT, 130), ("job", signal.SIGTERM, 143)]
)
def test_a_stopped_job_says_how_to_go_on_and_leaves_whole_shards(
    tmp_path, pictures, undisturbed, sent, code, whom
):
    out = tmp_path / "out"
    job = start(pictures, "--out", out, *OPTIONS)
    wait_for_reports(out, 3, job)
    processes = workers(job)
    (os.kill if whom == "job" else os.killpg)(job.pid, sent)
    found, _, errors = finish(job)
    assert found == code and "the same command goes on" in errors and "Traceback" not in errors
    assert not any(command_line(process) for process in processes) and drafts(out) == []
    for shard in (out / "data").glob("*"):
        assert pyarrow.parquet.read_table(shard).num_rows == 3
    before = reports(out)
    assert run(pictures, "--out", out, *OPTIONS)[0] == 0
    assert before.items() <= reports(out).items() and outputs(out) == outputs(undisturbed)


def test_a_disk_that_takes_no_more_ends_the_job_with_a_line(tmp_path):
    source = write_pictures(tmp_path / "pictures", 30)
    out, options = tmp_path / "out", ("--shard-size", 30, "--workers", 1)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    code, _, errors = run(source, "--out", out, *options, before=limit)
    last = errors.splitlines()[-1]
    assert code == 1 and "cannot write" in last and "part-000000" in last and "OUTPUT_UNWRITABLE" in last
    assert f"What is done stays in {out}: make room there, and the same command goes on" in last
    assert "Traceback" not in errors and drafts(out) == []
    assert run(source, "--out", out, *options)[0] == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "options", [(), ("--to", "webdataset"), ("--to", "folder"), ("--total-bytes", 20_000)], ids=str
)
def test_a_job_on_a_full_file_system_goes_on_once_there_is_room(tmp_path, many_pictures, options):
    whole, disk = tmp_path / "whole", tmp_path / "disk"
    assert run(many_pictures, "--out", whole, *OPTIONS, *options)[0] == 0
    disk.mkdir()
    with small_file_system(disk, "200k"):
        code, _, errors = run(many_pictures, "--out", disk / "out", *OPTIONS, *options)
        last = errors.splitlines()[-1]
        assert code == 1 and "No space left" in last and f"stays in {disk / 'out'}: make room" in last
        assert "Traceback" not in errors and drafts(disk / "out") == []
        written = shards(disk / "out")
        assert written.items() < shards(whole).items()
        before = reports(disk / "out")
        mount(disk, "remount,size=64m")
        assert run(many_pictures, "--out", disk / "out", *OPTIONS, *options)[0] == 0
        assert before.items() <= reports(disk / "out").items()
        assert outputs(disk / "out") == outputs(whole)


def test_a_folder_that_cannot_be_made_is_an_error_in_one_line(tmp_path):
    source = write_pictures(tmp_path / "pictures", 1)
    (tmp_path / "file").write_text("")
    code, _, errors = run(source, "--out", tmp_path / "file" / "out")
    assert code == 1 and errors.count("\n") == 1 and str(tmp_path / "file") in errors


def test_odd_files_are_counted_and_reported_and_the_job_ends_with_three(tmp_path, pictures):
    odd, bad = odd_pictures(tmp_path / "odd")
    out = tmp_path / "out"
    code, text, errors = run(pictures, odd, "--out", out, "--workers", 2, "--max-tokens", 40)
    assert code == 3, errors
    total = len(list(pictures.iterdir())) + len(list(odd.iterdir()))
    rows = pyarrow.parquet.read_table(out / "data").to_pylist()
    failed = {row["key"]: row["error"] for row in rows if row["error"]}
    assert len(rows) == total and set(failed) == {"empty.jpg", "page.jpg", "cut.png", "noise.webp"}
    listed = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert {one["key"]: one["reason"] for one in listed} == failed
    report = json.loads((out / "report.json").read_text())
    assert (report["pictures"], report["errors"]) == (total - bad, bad)
    assert sum(report["error_reasons"].values()) == bad and f"{bad} bad" in text
