"""A real server on a free port, on one event loop for the whole run (gRPC wants one per process)."""

from __future__ import annotations

import asyncio
import logging
import struct
import threading
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import structlog
from both_clients import Blocking
from fake_service import FakeServer
from fake_tokenizer import FakeTokenizer
from running_server import Running, StartServer, as_file

from serving.client import TokenizerClient
from serving.config import ServingConfig
from serving.server import TesseraServer, build_server


@pytest.fixture(scope="module", autouse=True)
def quiet_logs() -> Iterator[None]:
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(wrapper_class=before)


@pytest.fixture(scope="session")
def server_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server-loop")
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def start_server(server_loop: asyncio.AbstractEventLoop) -> Iterator[StartServer]:
    """Start servers with settings of the test's choice; all are stopped at its end."""
    started: list[Running] = []

    def start(*, load: bool = True, has_realism: bool = False, **settings) -> Running:
        tokenizer = FakeTokenizer(has_realism=has_realism)
        config = ServingConfig(port=0, metrics_port=0, **settings)
        running = Running(build(config, tokenizer), tokenizer, server_loop)
        started.append(running)
        running.call(running.server.start())
        if load:
            running.call(running.server.load())
            tokenizer.calls.clear()
        return running

    def build(config: ServingConfig, tokenizer: FakeTokenizer) -> TesseraServer:
        async def on_loop() -> TesseraServer:
            return build_server(config, tokenizer=tokenizer)

        return asyncio.run_coroutine_threadsafe(on_loop(), server_loop).result(10)

    yield start
    for running in started:
        running.tokenizer.gate.set()
        running.call(running.server.stop())


@pytest.fixture
def running(start_server: StartServer) -> Running:
    """A server with default settings."""
    return start_server()


@pytest.fixture
def client(running: Running) -> Iterator[TokenizerClient]:
    with running.client() as client:
        yield client


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """320x208 pixels with structure in all channels."""
    y, x = np.mgrid[0:208, 0:320]
    return np.stack([x * 255 // 319, y * 255 // 207, (x + y) % 256], axis=2).astype(np.uint8)


@pytest.fixture(scope="session")
def png(photo: np.ndarray) -> bytes:
    return as_file(photo, "PNG")


@pytest.fixture(scope="session")
def bomb_png() -> bytes:
    """Some hundred bytes that claim 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(64))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture(params=["sync", "asyncio"])
def connect(request, server_loop) -> Iterator[Callable[..., TokenizerClient]]:
    """A function that makes a client of one kind; all are closed at the end."""
    clients = []

    def make(target: str, **settings) -> TokenizerClient:
        is_sync = request.param == "sync"
        clients.append(
            TokenizerClient(target, **settings) if is_sync else Blocking(server_loop, target, **settings)
        )
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    server.start()
    yield server
    server.stop()
