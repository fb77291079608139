"""A started server, and what a test needs to look at it from outside. For tests only."""

from __future__ import annotations

import asyncio
import io
import re
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import grpc
import numpy as np
from fake_tokenizer import FakeTokenizer
from PIL import Image

from serving.client import TokenizerClient
from serving.server import TesseraServer

# The parser of prometheus_client takes most of a second for one scrape.
LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass
class Running:
    """A server that serves, and what a test needs to look at it."""

    server: TesseraServer
    tokenizer: FakeTokenizer
    loop: asyncio.AbstractEventLoop

    def call(self, coroutine, timeout_s: float = 30):
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)

    def begin(self, coroutine) -> Future:
        """Start a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def channel(self) -> grpc.Channel:
        # Without retries, so that a test sees each refusal; a subchannel pool of its own, so that no test
        # shares a connection with another; with a window that stays small, so that results which nobody
        # reads stay with the server instead of filling buffers of tens of megabytes here.
        return grpc.insecure_channel(
            self.server.target,
            [
                ("grpc.enable_retries", 0),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.http2.bdp_probe", 0),
                ("grpc.max_receive_message_length", -1),
            ],
        )

    def client(self, **kwargs) -> TokenizerClient:
        return TokenizerClient(self.server.target, **kwargs)

    def http(self, path: str, **headers: str) -> str:
        url = f"http://127.0.0.1:{self.server.metrics_port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as reply:
            return reply.read().decode()

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Everything that /metrics says."""
        lines = (LINE.fullmatch(line) for line in self.http("/metrics").splitlines())
        return {
            (line[1], tuple(sorted(LABEL.findall(line[2] or "")))): float(line[3]) for line in lines if line
        }

    def sample(self, name: str, **labels: str) -> float:
        """The sum of all series with this name and these labels."""
        return sum(
            value
            for (found, pairs), value in self.samples().items()
            if found == name and labels.items() <= dict(pairs).items()
        )

    def expect(self, value: float, name: str, **labels: str) -> None:
        """A sample is, or soon is, this value: a client has its reply before the server counts it."""
        try:
            self.eventually(lambda: self.sample(name, **labels) == value)
        except AssertionError:
            raise AssertionError(f"{name}{labels} is {self.sample(name, **labels)}, not {value}") from None

    def eventually(self, condition: Callable[[], bool], timeout_s: float = 5) -> None:
        """Wait until this holds, or fail."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("this never came true")


StartServer = Callable[..., Running]


def as_file(pixels: np.ndarray, format: str, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=format, **options)
    return out.getvalue()
