"""Fifty reloads of the shipped model under load: no call fails, and the server does not grow."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from PIL import Image

from benchmarks.memory import resident_mib
from benchmarks.server_process import ServerProcess, running_server
from benchmarks.server_watch import scrape, wait_until
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

RELOADS = 50
WARM_UP_S = 15.0
MAX_GROWTH = 1.1
# Of one reload, on a machine that has other work; it takes two or three seconds.
RELOAD_TIMEOUT_S = 60.0


@contextmanager
def calls(server: ServerProcess) -> Iterator[list[Exception]]:
    """A client that encodes and decodes until the block ends; what it failed with."""
    failures: list[Exception] = []
    stop = threading.Event()
    out = io.BytesIO()
    Image.linear_gradient("L").save(out, "jpeg")
    request = pb.EncodeRequest(image=types.Image(encoded=out.getvalue()))

    def work() -> None:
        # A retry would hide what this test looks for.
        with grpc.insecure_channel(server.target, [("grpc.enable_retries", 0)]) as channel:
            stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
            while not stop.is_set():
                try:
                    stream = stub.Encode(request, timeout=60).codestream.data
                    stub.Decode(pb.DecodeRequest(codestream=stream), timeout=60)
                except grpc.RpcError as error:
                    failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield failures
    finally:
        stop.set()
        thread.join()


def reload(server: ServerProcess) -> None:
    """Load the model again, and wait until the new one serves."""

    def done() -> float:
        return scrape(server).sum("tessera_model_reloads_total", result="ok")

    before = done()
    server.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: done() > before, RELOAD_TIMEOUT_S), before


@pytest.mark.load
@pytest.mark.timeout(RELOADS * RELOAD_TIMEOUT_S)
def test_fifty_reloads_under_load_fail_no_call_and_leave_memory_as_it_was():
    with running_server("default") as server, calls(server) as failures:
        time.sleep(WARM_UP_S)
        most_mib = MAX_GROWTH * resident_mib(server.pid)
        for _ in range(RELOADS):
            reload(server)
        # The last old model still has to end its last batch.
        wait_until(lambda: resident_mib(server.pid) <= most_mib, RELOAD_TIMEOUT_S)
        assert resident_mib(server.pid) <= most_mib
    assert failures == []
