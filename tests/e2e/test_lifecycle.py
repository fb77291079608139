"""Health, reflection, SIGTERM: a server process from outside."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from running_server import as_file

from serving.client import TokenizerClient
from serving.client.errors import Unavailable
from serving.config import ServingConfig
from serving.limits import CLIENT_KEEPALIVE_S
from serving.server_channel import channel_options
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SECONDS_PER_CALL = 0.7


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen, dict]]:
    """A serving process and where it listens."""
    port_file = tmp_path / "ports.json"
    command = [sys.executable, str(Path(__file__).with_name("serve_fake.py"))]
    with subprocess.Popen(
        [*command, str(port_file), str(SECONDS_PER_CALL)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        end = time.monotonic() + 60
        while not port_file.exists() and time.monotonic() < end and child.poll() is None:
            time.sleep(0.02)
        try:
            yield child, json.loads(port_file.read_text())
        finally:
            child.kill()


def test_sigterm_finishes_accepted_work_ends_watches_and_exits_0(process, photo):
    child, ports = process
    channel = grpc.insecure_channel(ports["target"], [("grpc.enable_retries", 0)])
    seen: list[int] = []
    watching = threading.Event()

    def watch() -> None:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        for reply in call:
            seen.append(reply.status)
            watching.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert watching.wait(10)
    stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
    request = pb.EncodeRequest(image=types.Image(encoded=as_file(photo, "PNG")))
    calls = [stub.Encode.future(request, timeout=20) for _ in range(5)]
    time.sleep(SECONDS_PER_CALL / 2)
    signalled = time.monotonic()
    child.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Encode(request, timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "shutting down" in refused.value.details()
    assert all(call.result().codestream.token_count == 1560 for call in calls)
    assert child.wait(timeout=15) == 0
    # Two batches of the slow model, and not the drain timeout of 10 s.
    assert time.monotonic() - signalled < 6
    watcher.join(5)
    assert seen == [SERVING, NOT_SERVING]
    channel.close()


def test_the_process_says_where_it_is_and_what_it_is_set_to(process):
    child, ports = process
    with TokenizerClient(ports["target"]) as client:
        assert client.is_serving()
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=15)
    assert child.returncode == 0
    assert f"serves on {ports['target']}" in out.decode()
    lines = [json.loads(line) for line in err.decode().splitlines()]
    assert [line["event"] for line in lines] == ["starting", "serving", "draining", "stopped"]
    assert lines[0]["config"]["drain_timeout_s"] == 10.0
    with TokenizerClient(ports["target"], timeout_s=2) as client, pytest.raises(Unavailable):
        client.server_info()


def test_sighup_loads_the_models_again_and_no_request_fails(process, photo):
    child, ports = process
    with TokenizerClient(ports["target"]) as client, ThreadPoolExecutor(1) as pool:
        begun = pool.submit(client.encode, photo)
        child.send_signal(signal.SIGHUP)
        assert begun.result(20).length == 1560
        assert client.encode(photo).length == 1560
        assert client.is_serving()
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=15)
    assert child.returncode == 0
    events = [json.loads(line)["event"] for line in err.decode().splitlines()]
    assert events.count("handled") == 2
    life = [event for event in events if event != "handled"]
    assert life == ["starting", "serving", "model reloaded", "draining", "stopped"]


@pytest.mark.parametrize("setting", ["port", "admin_port", "metrics_port"])
def test_a_port_that_is_taken_is_an_error_and_no_silent_sharing(setting):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"port": 0, "metrics_port": 0, setting: taken.getsockname()[1]}
        code = (
            "from serving.config import ServingConfig; from serving.server import run;"
            f"raise SystemExit(run(ServingConfig(**{ports})))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    last = json.loads(done.stderr.decode().splitlines()[-2])
    assert (last["event"], last["reason"]) == ("cannot serve", "OS_ERROR")
    place = f"127.0.0.1:{ports[setting]}"
    assert last["text"].removesuffix(" (metrics)") == f"cannot listen on {place}: Address already in use"


def test_a_model_that_is_not_there_is_an_error_that_names_it(tmp_path):
    code = (
        "from serving.config import ServingConfig; from serving.server import run;"
        "raise SystemExit(run(ServingConfig(port=0, metrics_port=0, models=('default', 'nowhere'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    last = json.loads(done.stderr.decode().splitlines()[-2])
    assert (last["event"], last["reason"]) == ("cannot serve", "MODEL_LOAD_FAILED")
    assert "nowhere" in last["text"]


def test_health_knows_each_service_and_only_those(running):
    with running.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "tessera.v1.TokenizerService", "tessera.v1.ModelService"):
            assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(running):
    with running.channel() as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        (reply,) = stub.ServerReflectionInfo(iter([ask]))
    names = {service.name for service in reply.list_services_response.service}
    assert {"tessera.v1.TokenizerService", "tessera.v1.ModelService", "grpc.health.v1.Health"} <= names


def test_a_client_that_pings_as_ours_does_is_not_sent_away(running):
    options = dict(channel_options(running.server.config))
    assert options["grpc.http2.min_recv_ping_interval_without_data_ms"] < 1000 * CLIENT_KEEPALIVE_S


def test_one_connection_has_room_for_all_that_may_be_in_work_and_as_much_on_its_way():
    assert dict(channel_options(ServingConfig()))["grpc.max_concurrent_streams"] == 2 * (128 + 64 + 16)


def test_a_connection_with_all_its_streams_open_waits_and_others_do_not(start_server):
    running = start_server(max_concurrent_rpcs=1, max_concurrent_truncates=1, max_bulk_streams=1)
    with running.channel() as full, running.channel() as other:
        request, health = health_pb2.HealthCheckRequest(), health_pb2_grpc.HealthStub(full)
        # The least that a connection may have, whatever the limits.
        watches = [health.Watch(request) for _ in range(100)]
        assert all(next(watch).status == SERVING for watch in watches)
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(request, timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        running.expect(0, "grpc_server_started_total", grpc_method="Check")
        assert health_pb2_grpc.HealthStub(other).Check(request, timeout=10).status == SERVING
        watches.pop().cancel()
        assert health.Check(request, timeout=10).status == SERVING
        for watch in watches:
            watch.cancel()
