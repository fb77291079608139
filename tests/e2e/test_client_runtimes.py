"""The client and the committed stubs run on every runtime that the extra `client` allows, the oldest too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from running_server import Running

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Oldest first; the newest is what all other tests run on.
RUNTIMES = {
    "floor": ("grpcio==1.60.0", "protobuf==4.25.0", "googleapis-common-protos==1.62.0"),
    "protobuf-5": ("grpcio==1.65.1", "protobuf==5.26.1"),
    "protobuf-6": ("grpcio==1.74.0", "protobuf==6.30.0"),
}

# Runs in the other environment: prints what it got, or fails.
CLIENT = """
import json, sys
import grpc, google.protobuf
from serving.client import TokenizerClient
from serving.client_errors import InvalidRequest
from tessera.v1 import tokenizer_service_pb2 as pb, tokenizer_service_pb2_grpc, types_pb2 as types
from tokenizer import TokenBudget

heavy = {"pydantic", "pydantic_settings", "structlog", "prometheus_client", "onnxruntime", "torch"}
target, picture = sys.argv[1], open(sys.argv[2], "rb").read()
with TokenizerClient(target) as client:
    stream = client.encode(picture, TokenBudget(max_bytes=100))
    prefixes = [prefix.length for prefix in client.encode_stream(picture)]
    decoded = client.decode(stream)
    try:
        client.encode(b"GIF89a")
    except InvalidRequest as error:
        reason = error.reason
    serving, limits = client.is_serving(), client.server_info().limits
request = pb.EncodeRequest(image=types.Image(encoded=picture))
items = [pb.EncodeManyRequest(item_id=1, request=request), pb.EncodeManyRequest(item_id=2)]
with grpc.insecure_channel(target) as channel:
    stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
    results = [result.WhichOneof("result") for result in stub.EncodeMany(iter(items))]
print(json.dumps({
    "versions": [grpc.__version__, google.protobuf.__version__],
    "length": stream.length, "prefixes": prefixes[-1], "png": decoded[:4].hex(), "reason": reason,
    "serving": serving, "window": limits.max_stream_window_item_count, "results": results,
    "heavy": sorted(heavy & set(sys.modules)),
}))
"""


def run(*command: object, **options) -> subprocess.CompletedProcess:
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=500, check=False, **options)


@pytest.fixture(params=RUNTIMES)
def old_python(request, tmp_path: Path) -> Path:
    """An interpreter with the base dependencies and these runtimes, and nothing of the server."""
    python = tmp_path / "venv" / "bin" / "python"
    assert run(sys.executable, "-m", "venv", tmp_path / "venv").returncode == 0
    extra = PROJECT["optional-dependencies"]["client"]
    pinned = RUNTIMES[request.param]
    done = run(python, "-m", "pip", "install", *PROJECT["dependencies"], *extra, *pinned)
    if "No matching distribution" in done.stderr:
        pytest.skip(f"no package index here has {', '.join(pinned)} for this Python")
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_client_talks_to_our_server_on_old_runtimes(old_python, running: Running, png, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(png)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
    done = run(old_python, "-c", CLIENT, running.server.target, picture, env=environment)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    print(*seen.pop("versions"))
    assert seen == {
        "length": 90,
        "prefixes": 1560,
        "png": "89504e47",
        "reason": "IMAGE_FORMAT_UNSUPPORTED",
        "serving": True,
        "window": 16,
        "results": ["response", "error"],
        "heavy": [],
    }


def test_the_client_imports_nothing_of_the_server():
    code = (
        "import sys, serving.client\n"
        "heavy = ('pydantic', 'structlog', 'prometheus_client', 'grpc_status', 'onnxruntime')\n"
        "print([module for module in heavy if module in sys.modules])"
    )
    done = run(sys.executable, "-c", code, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
