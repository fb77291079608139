"""A server whose decoders are processes: what its callers see when one ends, and that none outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

RESTARTS = "tessera_worker_restarts_total"


def decoders(server_pid: int) -> set[int]:
    """Worker processes of this process."""
    children = Path(f"/proc/{server_pid}/task/{server_pid}/children")
    if not children.exists():
        pytest.skip("this system does not list children in /proc")
    found = set()
    for task in Path(f"/proc/{server_pid}/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            if b"serving.picture_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


def test_a_worker_that_is_killed_fails_one_rpc_with_advice_and_the_next_succeeds(start_server, png):
    running = start_server(decode_isolation="process", image_threads=1)
    (pid,) = decoders(os.getpid())
    os.kill(pid, signal.SIGSTOP)
    request = pb.EncodeRequest(image=types.Image(encoded=png))
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        call = stub.Encode.future(request, timeout=20)
        running.eventually(lambda: running.sample("tessera_queue_bytes", op="encode") > 0)
        time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        error = call.exception()
        info = error_details_pb2.ErrorInfo()
        assert rpc_status.from_call(error).details[0].Unpack(info)
        assert (error.code(), info.reason) == (grpc.StatusCode.UNAVAILABLE, "DECODER_LOST")
        assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
        assert stub.Encode(request, timeout=20).codestream.data
    running.expect(1, RESTARTS, pool="decode")
    running.expect(0, "tessera_queue_bytes", op="encode")
    assert running.http("/readyz") == "ok\n"


def test_a_picture_that_hangs_the_decoder_is_the_callers_mistake(start_server, png):
    running = start_server(decode_isolation="process", image_threads=1, decode_timeout_s=0.3)
    (pid,) = decoders(os.getpid())
    os.kill(pid, signal.SIGSTOP)
    with running.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        stub.Encode(pb.EncodeRequest(image=types.Image(encoded=png)), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    running.expect(1, "tessera_invalid_requests_total", method="Encode", reason="IMAGE_CORRUPT")
    running.expect(1, RESTARTS, pool="decode")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_decoder_outlives_its_server(tmp_path, number):
    port_file = tmp_path / "ports.json"
    command = [sys.executable, str(Path(__file__).with_name("serve_fake.py")), str(port_file), "0"]
    settings = os.environ | {"TESSERA_DECODE_ISOLATION": "process", "TESSERA_IMAGE_THREADS": "2"}
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + 60
            while not port_file.exists() and time.monotonic() < end and server.poll() is None:
                time.sleep(0.02)
            assert json.loads(port_file.read_text())["port"]
            workers = decoders(server.pid)
            assert len(workers) == 2
            server.send_signal(number)
            server.wait(15)
        finally:
            server.kill()
    end = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
