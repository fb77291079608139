"""What a server process writes to stderr, and which request id and trace id it shows."""

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
import pytest
from running_server import as_file

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
HOSTILE_IDS = ("a" * 65, "two words", 'quote"and{brace}', "semi;colon")
FORGED = b"FORGED-BY-CLIENT" * 20


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


def test_each_rpc_gets_one_line_with_its_id_its_code_and_its_stages(tmp_path, photo):
    png = as_file(photo, "PNG")
    with server_process(tmp_path) as (target, stop):
        ids = [encode(target, png, ("x-request-id", "my-id:1")), encode(target, b"no picture")]
        replaced = [encode(target, png, ("x-request-id", hostile)) for hostile in HOSTILE_IDS]
        encode(target, FORGED, model=FORGED.decode())
        lines = stop()
    handled = [line for line in lines if line["event"] == "handled" and line["method"] == "Encode"]
    assert [line["request_id"] for line in handled[:2]] == ids
    assert ids[0] == "my-id:1"
    assert {line["request_id"] for line in handled[2:6]} == set(replaced)
    assert not set(HOSTILE_IDS) & set(replaced)
    good, bad = handled[:2]
    assert good["code"] == "OK" and good["level"] == "info" and good["token_count"] == 1560
    assert {"parse_s", "image_decode_s", "queue_s", "inference_s", "duration_s"} <= good.keys()
    assert (bad["code"], bad["reason"]) == ("INVALID_ARGUMENT", "IMAGE_FORMAT_UNSUPPORTED")
    assert len(handled) == 7
    assert "FORGED" not in str(lines)


def test_sampling_and_tracing_show_in_the_log(tmp_path, photo):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra `otel`")
    png = as_file(photo, "PNG")
    # Nobody listens there: spans are lost, and neither requests nor the end of the process wait for them.
    settings = {
        "TESSERA_TRACING": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "TESSERA_ACCESS_LOG_SAMPLE": "0",
    }
    with server_process(tmp_path, **settings) as (target, stop):
        encode(target, png)
        encode(target, b"no picture", ("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01"))
        lines = [line for line in stop() if line["event"] == "handled"]
    (line,) = lines
    assert line["code"] == "INVALID_ARGUMENT"
    assert line["trace_id"] == TRACE_ID
    assert len(line["span_id"]) == 16
