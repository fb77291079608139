"""A server that can no longer work says so to its probes, and one that only met a bad picture does not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import urllib.error

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_server import as_file
from several_models import start

from serving import fitness
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(autouse=True)
def quick_tests(monkeypatch) -> None:
    monkeypatch.setattr(fitness, "RETEST_S", 0.05)


def encode(running, file: bytes) -> grpc.StatusCode:
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        call = stub.Encode.future(pb.EncodeRequest(image=types.Image(encoded=file)), timeout=20)
        return call.code()


def is_ready(running) -> bool:
    try:
        return running.http("/readyz") == "ok\n"
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return False


def health(running) -> int:
    with running.channel() as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status


def test_a_model_that_fails_every_call_is_not_ready_until_it_works_again(start_server, png):
    running = start_server()

    def broken(*_args, **_settings):
        raise RuntimeError("CUDA error: device is lost")

    running.tokenizer.encode = broken
    assert encode(running, png) is grpc.StatusCode.INTERNAL
    running.eventually(lambda: not is_ready(running))
    assert health(running) == NOT_SERVING
    running.expect(0, "tessera_model_ready", model="fake")
    # Alive: only the operator can tell whether a restart would help.
    assert running.http("/livez") == "ok\n"
    del running.tokenizer.encode
    running.eventually(lambda: is_ready(running))
    assert health(running) == SERVING
    running.expect(1, "tessera_model_ready", model="fake")
    assert encode(running, png) is grpc.StatusCode.OK


def test_pictures_that_break_the_model_do_not_take_the_server_out_of_service(start_server, photo):
    running = start_server()
    poison = photo.copy()
    poison[0, 0, 0] = running.tokenizer.poison = 77
    for number in range(1, 4):
        assert encode(running, as_file(poison, "png")) is grpc.StatusCode.INTERNAL
        # Two calls of the model for each test of its own.
        running.eventually(lambda number=number: running.tokenizer.calls.count(("decode", 1)) == number)
        running.call(_passed(running))
        assert is_ready(running)
    assert health(running) == SERVING


async def _passed(running) -> None:
    """Wait until a passed test is believed no longer."""
    await asyncio.sleep(2 * fitness.RETEST_S)


def test_decoders_that_die_at_each_start_are_no_service(start_server, png):
    running = start_server(decode_isolation="process", image_threads=1)
    pool = running.server._pictures
    command, pool._command = pool._command, (sys.executable, "-c", "raise SystemExit(3)")
    for pid in pool.process_ids:
        os.kill(pid, signal.SIGKILL)
    assert encode(running, png) is grpc.StatusCode.UNAVAILABLE
    running.eventually(lambda: not is_ready(running))
    assert health(running) == NOT_SERVING
    assert running.sample("tessera_worker_restarts_total", pool="decode") >= 2
    pool._command = command
    running.eventually(lambda: is_ready(running), timeout_s=20)
    assert encode(running, png) is grpc.StatusCode.OK
    assert health(running) == SERVING


def test_a_model_that_fails_beside_one_that_works_is_a_failure_of_its_requests_only(server_loop, png):
    running = start(server_loop, ("small", "other"), {})
    try:
        (broken,) = (made for made in running.shelf.alive if made.name == "small")

        def fails(*_args, **_settings):
            raise RuntimeError("the session is broken")

        broken.encode = fails
        (works,) = (made for made in running.shelf.alive if made.name == "other")
        works.calls.clear()
        assert encode(running, png) is grpc.StatusCode.INTERNAL
        running.eventually(lambda: works.calls.count(("decode", 1)) >= 1)
        assert is_ready(running)
    finally:
        running.call(running.server.stop())
