"""A server with every secret there is, asked in every wrong way: none of it reaches its logs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from certificates import TlsFolder, authority
from key_files import bearer, caller, write_keys

from serving import logs
from serving.api_keys import hash_of, new_key
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

PASSWORD = "dXNlcjpodW50ZXIy"
LONG_TEXT = "private-text-of-a-client-" * 20
# gRPC itself reports failed handshakes, in lines of its own.
LINE_OF_GRPC = re.compile(r"[IWEF]\d{4} .*|WARNING: All log messages before .*")


def wait_for(condition, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.02)


def ask_in_every_wrong_way(target: str, ca_pem: bytes, png: bytes, tokens: list[str]) -> None:
    credentials = grpc.ssl_channel_credentials(ca_pem)
    with grpc.secure_channel(target, credentials, [("grpc.enable_retries", 0)]) as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        good = pb.EncodeRequest(image=types.Image(encoded=png))
        requests = (
            good,
            pb.EncodeRequest(image=types.Image(encoded=png[:-100])),
            pb.EncodeRequest(image=types.Image(encoded=LONG_TEXT.encode())),
            pb.EncodeRequest(model=LONG_TEXT, image=types.Image(encoded=png)),
            pb.EncodeRequest(model="a\r\n{}", image=types.Image(encoded=png)),
        )
        for metadata in (*map(bearer, tokens), (("authorization", f"Basic {PASSWORD}"),), ()):
            for request in requests:
                odd = (*metadata, ("x-request-id", LONG_TEXT), ("x-forwarded-for", PASSWORD))
                with contextlib.suppress(grpc.RpcError):
                    stub.Encode(request, metadata=odd, timeout=20)


def bad_handshakes(port: int) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as plain:
        plain.sendall(f"GET /?key={PASSWORD} HTTP/1.1\r\nAuthorization: Basic {PASSWORD}\r\n\r\n".encode())
        plain.recv(100)
    context = ssl.create_default_context()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as raw:
        context.wrap_socket(raw, server_hostname="localhost")


@pytest.fixture
def output(tmp_path, png) -> tuple[str, list[str]]:
    """Everything that such a server wrote, and everything that must not be in it."""
    ca, folder = authority(), TlsFolder(tmp_path)
    good, old, slow = (
        caller("good"),
        caller("old", expires="2020-01-01T00:00:00Z"),
        caller("slow", pictures_per_s=0.01),
    )
    unknown = new_key()
    issued = ca.issue("server")
    folder.put(issued)
    write_keys(tmp_path / "keys.toml", good, old, slow)
    settings = {
        "TLS_CERT_FILE": folder.cert,
        "TLS_KEY_FILE": folder.key,
        "AUTH_KEYS_FILE": tmp_path / "keys.toml",
        "SECURITY_RELOAD_INTERVAL_S": 0.05,
        "LOG_LEVEL": "debug",
        "DECODE_ISOLATION": "process",
    }
    environment = os.environ | {f"TESSERA_{name}": str(value) for name, value in settings.items()}
    port_file = tmp_path / "ports.json"
    command = [sys.executable, str(Path(__file__).with_name("serve_fake.py")), str(port_file), "0"]
    log = tmp_path / "log"
    with log.open("w") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as child:
        try:
            wait_for(lambda: port_file.exists() or child.poll() is not None)
            port = json.loads(port_file.read_text())["port"]
            tokens = [good.key, old.key, slow.key, unknown, f"{unknown} {good.key}", "a" * 4000]
            ask_in_every_wrong_way(f"localhost:{port}", ca.cert_pem, png, tokens)
            bad_handshakes(port)
            folder.key.write_bytes(ca.issue("other").key_pem)
            (tmp_path / "keys.toml").write_text(f'{good.key} = "{good.key}"\n')
            wait_for(lambda: log.read_text().count("reload failed") == 2)
            child.send_signal(signal.SIGTERM)
            assert child.wait(20) == 0
        finally:
            child.kill()
    entries = [hash_of(key) for key in (good.key, old.key, slow.key, unknown)]
    pem_lines = issued.key_pem.decode().splitlines()[1:-1]
    return log.read_text(), [good.key, old.key, slow.key, unknown, "a" * 100, PASSWORD, *entries, *pem_lines]


def test_no_secret_and_no_text_of_a_client_is_in_the_logs(output):
    text, secrets = output
    assert [secret for secret in secrets if secret in text] == []
    assert LONG_TEXT[:200] not in text and "Bearer" not in text and "\\x89PNG" not in text
    # The test would also pass on an empty log.
    assert {"TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_MISSING", "RATE_LIMITED", "MODEL_NOT_FOUND"} <= set(
        re.findall(r'"reason": "(\w+)"', text)
    )
    lines = [line for line in text.splitlines() if not LINE_OF_GRPC.fullmatch(line)]
    events = [json.loads(line) for line in lines if not line.startswith("tessera serves on")]
    assert {"good", "slow"} <= {event.get("key") for event in events}


@pytest.mark.parametrize("given", ["a\r\nb", "a\nb", "", "a" * 65, '","level":"error', "ключ", "a b"])
def test_a_request_id_that_could_forge_a_line_is_replaced(given):
    assert re.fullmatch(r"[0-9a-f]{32}", logs.request_id(given))
