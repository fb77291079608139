"""The load generator and `tessera bench` against a server whose model is fake."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import TlsFolder, authority
from key_files import caller, write_keys

from serving.client.errors import Unavailable
from serving.load.connections import Connections
from serving.load.generator import run_load
from serving.load.pictures import LoadPicture, generated
from serving.load.plan import WINDOW_ITEMS, Arrivals, LoadPlan, RpcKind
from serving.load.prepare import prepare
from serving.load.requests import build
from tokenizer.canvas import Size

# `tessera`, but it waits a third of a second for a server that does not answer, and not five seconds.
IMPATIENT = """
import serving.load.prepare
serving.load.prepare.CONNECT_TIMEOUT_S = 0.3
from serving.cli import main
main()
"""
PICTURES = generated([Size(64, 48), Size(48, 64)])
ALL_KINDS = dict.fromkeys(RpcKind, 1.0)


def send(running, plan: LoadPlan, **options):
    """Prepare and run on the server's own loop: gRPC wants one per process."""

    async def both():
        return await run_load(plan, await prepare(plan, PICTURES), **options)

    return running.call(both(), timeout_s=60)


def test_every_kind_of_call_of_a_mix_is_sent_and_answered(running):
    plan = LoadPlan(running.server.target, clients=6, duration_s=1.0, mix=ALL_KINDS)
    outcomes = send(running, plan)
    assert {outcome.label for outcome in outcomes} == {"OK"}
    assert {outcome.kind for outcome in outcomes} == set(RpcKind)
    streams = [outcome for outcome in outcomes if outcome.first_s is not None]
    assert {outcome.kind for outcome in streams} == {RpcKind.ENCODE_STREAM, RpcKind.DECODE_STREAM}
    assert all(outcome.sent_s <= outcome.first_s <= outcome.ended_s for outcome in streams)
    for method in (
        "Encode",
        "EncodeStream",
        "Decode",
        "DecodeStream",
        "Truncate",
        "EncodeMany",
        "DecodeMany",
    ):
        assert running.sample("grpc_server_handled_total", grpc_method=method, grpc_code="OK") > 0


def test_every_item_of_a_bulk_stream_counts_by_itself(running):
    plan = LoadPlan(running.server.target, clients=1, duration_s=5.0, mix={RpcKind.ENCODE_MANY: 1.0})

    async def items_of_one_stream():
        (good, *_) = (await prepare(plan, PICTURES))[RpcKind.ENCODE_MANY]
        (bad,) = build(RpcKind.ENCODE_MANY, [LoadPicture(PICTURES[0].size, file=b"<html>")], ())
        connections = Connections([plan.target], retries=False)
        items = iter([good] * 10 + [bad, good])
        try:
            return [item async for item in connections.send_items(0, RpcKind.ENCODE_MANY, items, 5.0)]
        finally:
            await connections.close()

    items = running.call(items_of_one_stream())
    assert [answer.code for _, answer in items] == ["OK"] * 10 + ["INVALID_ARGUMENT", "OK"]
    assert items[10][1].reason == "IMAGE_FORMAT_UNSUPPORTED"
    assert [sent_at for sent_at, _ in items] == sorted(sent_at for sent_at, _ in items)


def test_items_that_a_stalled_server_leaves_unanswered_miss_their_deadline(running):
    plan = LoadPlan(
        running.server.target, clients=1, duration_s=0.2, deadline_s=0.4, mix={RpcKind.ENCODE_MANY: 1.0}
    )

    async def both():
        requests = await prepare(plan, PICTURES)
        running.tokenizer.gate.clear()
        return await run_load(plan, requests)

    outcomes = running.call(both())
    running.tokenizer.gate.set()
    assert {outcome.label for outcome in outcomes} == {"DEADLINE_EXCEEDED NO_ANSWER"}
    assert len(outcomes) == WINDOW_ITEMS
    running.expect(0, "tessera_in_flight_requests")


def test_a_closed_loop_has_as_many_calls_in_work_as_clients_and_never_more(running):
    running.tokenizer.gate.clear()
    plan = LoadPlan(running.server.target, clients=3, duration_s=0.5)

    async def both():
        requests = await prepare(plan, PICTURES)
        load = asyncio.create_task(run_load(plan, requests))
        await asyncio.sleep(0.3)
        in_work = running.server.admission.in_flight
        running.tokenizer.gate.set()
        return in_work, await load

    in_work, outcomes = running.call(both())
    assert in_work == 3
    assert len(outcomes) >= 3


def test_an_open_loop_keeps_sending_while_the_server_stalls_and_counts_the_wait(running):
    plan = LoadPlan(
        running.server.target, rate_per_s=20.0, arrivals=Arrivals.CONSTANT, duration_s=0.5, deadline_s=20.0
    )

    async def both():
        requests = await prepare(plan, PICTURES)
        running.tokenizer.gate.clear()
        load = asyncio.create_task(run_load(plan, requests))
        await asyncio.sleep(1.0)
        running.tokenizer.gate.set()
        return await load

    outcomes = running.call(both())
    assert len(outcomes) == 10
    assert {outcome.label for outcome in outcomes} == {"OK"}
    # The first was due a whole second before the gate opened, the last half a second.
    assert max(outcome.latency_s for outcome in outcomes) >= 0.9
    assert min(outcome.latency_s for outcome in outcomes) >= 0.4


def test_refusals_and_deadlines_are_seen_with_code_and_reason(start_server):
    full = start_server(max_batch_size=1, max_queue_items=1)
    full.tokenizer.gate.clear()
    plan = LoadPlan(
        full.server.target, rate_per_s=20.0, arrivals=Arrivals.CONSTANT, duration_s=0.5, deadline_s=0.6
    )
    labels = [outcome.label for outcome in send(full, plan)]
    assert labels.count("RESOURCE_EXHAUSTED QUEUE_FULL") == 8
    assert sum(label.startswith("DEADLINE_EXCEEDED") for label in labels) == 2


def test_a_load_with_retries_repeats_what_was_refused(start_server):
    full = start_server(max_batch_size=1, max_queue_items=1)
    full.tokenizer.gate.clear()
    plan = LoadPlan(
        full.server.target, rate_per_s=20.0, duration_s=0.3, deadline_s=1.0, retries=True, connections=1
    )
    calls = len(send(full, plan))
    assert full.sample("grpc_server_started_total", grpc_method="Encode") > calls


def test_stopping_early_keeps_what_is_known_and_cancels_the_rest(running):
    plan = LoadPlan(running.server.target, clients=2, duration_s=60.0)

    async def both():
        requests = await prepare(plan, PICTURES)
        stop = asyncio.Event()
        load = asyncio.create_task(run_load(plan, requests, stop=stop))
        await asyncio.sleep(0.3)
        running.tokenizer.gate.clear()
        await asyncio.sleep(0.1)
        stop.set()
        return await load

    outcomes = running.call(both())
    running.tokenizer.gate.set()
    assert outcomes and {outcome.label for outcome in outcomes} == {"OK"}
    running.expect(0, "tessera_in_flight_requests")


def test_a_server_that_is_not_there_is_said_before_the_run(running, monkeypatch):
    monkeypatch.setattr("serving.load.prepare.CONNECT_TIMEOUT_S", 0.3)
    with pytest.raises(Unavailable, match="nobody answers"):
        running.call(prepare(LoadPlan("127.0.0.1:1", clients=1), PICTURES))


def test_a_server_that_wants_tls_is_no_silence(start_server, tmp_path, monkeypatch):
    folder = TlsFolder(tmp_path)
    folder.put(authority().issue("server"))
    encrypted = start_server(**folder.settings())
    monkeypatch.setattr("serving.load.prepare.CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(Unavailable, match=r"nobody answers at .*: .*Socket closed"):
        encrypted.call(prepare(LoadPlan(encrypted.server.target, clients=1), PICTURES))


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """A server process, so that `tessera bench` has a process of its own, too."""
    port_file = tmp_path_factory.mktemp("served") / "ports.json"
    command = [sys.executable, str(Path(__file__).with_name("serve_fake.py")), str(port_file), "0.005"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        end = time.monotonic() + 60
        while not port_file.exists() and time.monotonic() < end and server.poll() is None:
            time.sleep(0.02)
        yield json.loads(port_file.read_text())
        server.kill()


@pytest.fixture
def target(ports) -> str:
    return ports["target"]


def encodes_started(ports) -> float:
    url = f"http://127.0.0.1:{ports['metrics_port']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as reply:
        lines = reply.read().decode().splitlines()
    wanted = 'grpc_server_started_total{grpc_method="Encode",'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(wanted))


def bench(*arguments: str, command: tuple[str, ...] = ("-m", "serving")) -> subprocess.Popen[str]:
    command = (sys.executable, *command, "bench", *arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_prints_tables_and_writes_json(target, tmp_path):
    path = tmp_path / "load.json"
    arguments = ("--rate", "40", "--duration", "1", "--warm-up", "0.2", "--mix", "encode=3,decode=1")
    arguments += ("--slo-ms", "900", "--sizes", "64x48", "--formats", "png,tensor", "--processes", "2")
    child = bench("--target", target, *arguments, "--json", str(path))
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert "answered within, ms" in out and "40 calls/s, poisson arrivals" in out
    report = json.loads(path.read_text())
    assert report["statuses"] == {"OK": report["sent"]}
    assert report["plan"]["mix"] == {"encode": 3.0, "decode": 1.0}
    assert report["goodput_per_s"] == report["throughput_per_s"] > 0
    assert report["ok_latency"]["p99_ms"] >= report["ok_latency"]["p50_ms"] > 0


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_command_shows_a_key_over_tls(start_server, tmp_path, processes):
    ca, good, folder = authority(), caller("good"), TlsFolder(tmp_path)
    folder.put(ca.issue("server"))
    folder.client_ca.write_bytes(ca.cert_pem)
    (tmp_path / "key").write_text(good.key)
    keys = write_keys(tmp_path / "keys.toml", good)
    secured = start_server(**folder.settings(), auth_keys_file=keys)
    load = ("--clients", "2", "--duration", "0.5", "--warm-up", "0", "--sizes", "64x48")
    load += ("--mix", "encode,decode_many", "--processes", processes, "--json", "-")
    tls = ("--target", f"localhost:{secured.server.port}", "--ca-file", str(folder.client_ca))
    child = bench(*tls, "--key-file", str(tmp_path / "key"), *load)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert json.loads(out)["statuses"].keys() == {"OK"} and good.key not in out + err
    child = bench(*tls, *load)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err.count("\n")) == (1, 1) and "TOKEN_MISSING" in err


@pytest.mark.parametrize("processes", ["1", "2"])
def test_ctrl_c_ends_the_run_with_the_partial_report(ports, target, processes):
    before = encodes_started(ports)
    options = ("--duration", "60", "--warm-up", "0", "--sizes", "64x48", "--json", "-")
    child = bench("--target", target, "--clients", "2", "--processes", processes, *options)
    end = time.monotonic() + 60
    while encodes_started(ports) < before + 20 and time.monotonic() < end:
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130, err
    report = json.loads(out)
    assert report["was_stopped"] and report["ok_latency"]["count"] == report["sent"] > 0
    assert "stopped early" in err


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("--clients", "1", "--rate", "2"), 2),
        (("--clients", "2", "--processes", "3", "--sizes", "8x8"), 2),
        (("--clients", "1", "--target", "127.0.0.1:1"), 1),
    ],
)
def test_nonsense_is_refused_in_one_line(target, arguments, exit_code):
    child = bench("--target", target, *arguments, command=("-c", IMPATIENT))
    _, err = child.communicate(timeout=60)
    assert child.returncode == exit_code
    assert "Traceback" not in err
