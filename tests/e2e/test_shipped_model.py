"""The shipped model behind a real server gives what the library gives."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running_server import Running

from serving.client import TokenizerClient
from serving.config import ServingConfig
from serving.server import build_server
from tokenizer import ImageTokenizer, TokenBudget
from tokenizer.quality import psnr_db


@pytest.fixture(scope="module")
def library() -> ImageTokenizer:
    return ImageTokenizer.from_pretrained()


@pytest.fixture(scope="module")
def client(server_loop, library) -> Iterator[TokenizerClient]:
    async def build():
        server = build_server(ServingConfig(port=0, metrics_port=0), tokenizer=library)
        await server.start()
        await server.load()
        return server

    running = Running(None, library, server_loop)
    running.server = running.call(build(), timeout_s=100)
    with running.client() as client:
        yield client
    running.call(running.server.stop())


def test_the_server_and_the_library_make_the_same_stream(client, library, photo):
    for budget in (None, TokenBudget(max_bytes=128), TokenBudget(min_psnr_db=22.0)):
        (expected,) = library.encode([photo], budget)
        served = client.encode(photo, budget)
        assert served == expected
        assert served.curve == expected.curve


def test_each_prefix_of_the_stream_shows_more_of_the_photo(client, photo):
    shown = []
    for prefix in client.encode_stream(photo):
        decoded = np.asarray(Image.open(io.BytesIO(client.decode(prefix))))
        shown.append(psnr_db(decoded, photo))
    assert len(shown) > 5
    # A little room, since only the mean over pictures is strictly monotone.
    assert all(later > earlier - 0.2 for earlier, later in pairwise(shown))
    assert shown[-1] > shown[0] + 5


@pytest.mark.slow
def test_ten_reloads_of_the_shipped_model_take_no_more_memory_than_the_first(server_loop):
    async def build():
        server = build_server(ServingConfig(port=0, metrics_port=0, num_threads=1))
        await server.start()
        await server.load()
        return server

    running = Running(None, None, server_loop)
    running.server = running.call(build(), timeout_s=100)
    used_mib = []
    for _ in range(10):
        running.call(running.server.models.reload(), timeout_s=100)
        used_mib.append(resident_mib())
    running.call(running.server.stop())
    # One model takes about 125 MiB, and a leak of it would show nine times; the allocator's spread is 20.
    assert used_mib[-1] - used_mib[0] < 40, used_mib


def resident_mib() -> float:
    """Memory of this process that is in use now; its own maximum would hide what was given back."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux tells a process its memory without further libraries")
    return int(re.search(r"VmRSS:\s+(\d+) kB", status.read_text())[1]) / 1024
