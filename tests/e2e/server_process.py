"""A server process with a fake tokenizer, its log, and one call. For tests only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types


@contextmanager
def server_process(folder: Path, **settings: str) -> Iterator[tuple[str, Callable[[], list[dict]]]]:
    """A serving process: its target, and a function that ends it and reads its log."""
    port_file = folder / "ports.json"
    command = [sys.executable, str(Path(__file__).with_name("serve_fake.py")), str(port_file), "0"]
    environment = {**os.environ, **settings}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as child:
        end = time.monotonic() + 60
        while not port_file.exists() and time.monotonic() < end and child.poll() is None:
            time.sleep(0.02)

        def stop() -> list[dict]:
            child.send_signal(signal.SIGTERM)
            _, err = child.communicate(timeout=30)
            return [json.loads(line) for line in err.decode().splitlines()]

        try:
            yield json.loads(port_file.read_text())["target"], stop
        finally:
            child.kill()


def encode(target: str, file: bytes, *metadata: tuple[str, str], model: str = "") -> str:
    """Encode once, whatever comes of it; the request id of the reply."""
    with grpc.insecure_channel(target) as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        request = pb.EncodeRequest(image=types.Image(encoded=file), model=model)
        call = stub.Encode.future(request, timeout=20, metadata=metadata)
        call.exception()
        return dict(call.trailing_metadata())["x-request-id"]
