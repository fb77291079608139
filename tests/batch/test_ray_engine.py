"""Ray gives what processes give, byte for byte; deaths cost time; what is missing is said in a line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from job_process import (
    descendants,
    drafts,
    finish,
    kill_group,
    outputs,
    reports,
    run,
    start,
    wait_for_reports,
    wait_until,
    write_pictures,
)

from serving.batch import ray_engine
from serving.batch.errors import ClusterUnreachable, PackageMissing

# Ray Data warns of settings of its own that it reads.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
OPTIONS = ("--shard-size", 3, "--workers", 2)
RAY = ("--engine", "ray")
ACTOR = "ray::MapWorker"


@pytest.fixture(scope="module")
def ray():
    return pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster_address(ray):
    """Two nodes."""
    script = Path(__file__).with_name("two_nodes.py")
    nodes = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield nodes.stdout.readline().strip()
    nodes.communicate(timeout=60)


def forms(name: str) -> tuple[object, ...]:
    return {
        "parquet": (),
        "webdataset": ("--to", "webdataset", "--max-bytes", 300),
        "folder": ("--to", "folder", "--coding", "fixed"),
        "set": ("--total-bytes", 20_000),
    }[name]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["parquet", "webdataset", "folder", "set"])
def test_ray_and_processes_write_the_same_bytes(ray, tmp_path, pictures, form):
    local, cluster = tmp_path / "local", tmp_path / "ray"
    assert run(pictures, "--out", local, *OPTIONS, *forms(form))[0] == 0
    code, _, errors = run(pictures, "--out", cluster, *OPTIONS, *RAY, *forms(form))
    assert code == 0, errors
    assert outputs(cluster) == outputs(local) and drafts(cluster) == []
    # Nothing of Ray's on the console.
    assert all(line.startswith(("tokenizing", "1/2", "2/2")) for line in errors.splitlines()), errors


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ray_and_processes_find_the_same_repeats(ray, tmp_path):
    trees = [write_pictures(tmp_path / "a", 7), write_pictures(tmp_path / "b", 9, side_px=32)]
    local, cluster = tmp_path / "local", tmp_path / "ray"
    options = (*OPTIONS, "--to", "folder", "--max-tokens", 20)
    assert run(*trees, "--out", local, *options)[0] == 3
    assert run(*trees, "--out", cluster, *options, *RAY)[0] == 3
    assert outputs(cluster) == outputs(local)
    assert (local / "errors.jsonl").read_text().count("KEY_REPEATED") == 7


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_share_a_job(tmp_path, pictures, undisturbed, cluster_address):
    out = tmp_path / "out"
    options = (*OPTIONS, *RAY, "--min-workers", 2, "--ray-address", cluster_address)
    code, _, errors = run(pictures, "--out", out, *options)
    assert code == 0, errors
    assert outputs(out) == outputs(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_actor_that_is_killed_costs_only_time(ray, tmp_path, pictures, undisturbed):
    out = tmp_path / "out"
    job = start(pictures, "--out", out, *OPTIONS, *RAY)
    wait_until(lambda: descendants(job.pid, ACTOR) or job.poll() is not None, "actors start")
    wait_for_reports(out, 2, job)
    os.kill(descendants(job.pid, ACTOR)[0], signal.SIGKILL)
    code, _, errors = finish(job)
    assert code == 0, errors
    assert outputs(out) == outputs(undisturbed) and drafts(out) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("first", "second"), [((), RAY), (RAY, ())], ids=["local-ray", "ray-local"])
def test_either_engine_goes_on_where_the_other_was_killed(
    ray, tmp_path, pictures, undisturbed, first, second
):
    out = tmp_path / "out"
    job = start(pictures, "--out", out, *OPTIONS, *first)
    wait_for_reports(out, 3, job)
    kill_group(job)
    before = reports(out)
    code, _, errors = run(pictures, "--out", out, *OPTIONS, *second)
    assert code == 0, errors
    assert before.items() <= reports(out).items() and outputs(out) == outputs(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sigterm_ends_a_job_on_ray_like_any_other(ray, tmp_path, pictures):
    out = tmp_path / "out"
    job = start(pictures, "--out", out, *OPTIONS, *RAY)
    wait_for_reports(out, 2, job)
    job.terminate()
    code, _, errors = finish(job)
    assert code == 143 and "the same command goes on" in errors and "Traceback" not in errors
    assert drafts(out) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_error_of_an_actor_is_one_line(ray, tmp_path, pictures):
    code, _, errors = run(pictures, "--out", tmp_path / "out", *RAY, "--provider", "coreml")
    assert code == 1 and "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: ") and "coreml" in errors.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gpus_that_are_not_there_are_not_waited_for(ray, tmp_path, pictures):
    code, _, errors = run(pictures, "--out", tmp_path / "out", *RAY, "--num-gpus", 64)
    assert code == 1 and "1 actors take 64 GPU" in errors


def test_a_cluster_that_does_not_answer_is_an_error_within_seconds(ray, tmp_path, pictures):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, errors = run(pictures, "--out", tmp_path / "out", *RAY, "--ray-address", address)
    assert code == 1 and "Traceback" not in errors
    assert f"nothing answers at {address}" in errors.splitlines()[-1]


def test_a_ray_that_cannot_be_joined_is_an_error_of_the_job(ray, monkeypatch):
    def init(**_):
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ClusterUnreachable, match="no Ray at auto: Could not find"):
        ray_engine._start(ray, "auto")


def test_ray_reports_its_use_to_nobody_unless_the_user_wants_it(ray, monkeypatch):
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    ray_engine._import_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    ray_engine._import_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PackageMissing, match=r"tessera\[ray\]"):
        ray_engine._import_ray()


@pytest.mark.parametrize("address", ["auto", None, "local"])
def test_an_address_without_a_port_is_for_ray_to_find(address):
    ray_engine._check_reachable(address)


def test_an_unknown_host_is_said_to_be_unreachable():
    with pytest.raises(ClusterUnreachable, match=r"nothing answers at ray://nowhere\.invalid:1"):
        ray_engine._check_reachable("ray://nowhere.invalid:1")
