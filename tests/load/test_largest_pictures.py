"""Many of the largest legal pictures at once: memory stays within what the settings set aside."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from PIL import Image

from benchmarks.memory import MIB, peak_resident_mib, resident_mib
from benchmarks.server_process import ServerProcess, running_server
from serving.client.errors import service_error
from serving.config import ServingConfig
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

CALLS = 64
TIMEOUT_S = 300
SETTINGS = ServingConfig()
ASIDE_MIB = SETTINGS.max_queue_size_bytes / MIB
# A message is there once on its way and once in work: what gRPC received it in is seldom given back.
COPIES = 2
# A bulk stream: its window, what is on its way into it, and as much again that is not given back.
COPIES_PER_STREAM = 6
# Reading a WebP takes 16 bytes per pixel instead of the 8 that are set aside (docs/operations.md).
EXTRA_BYTES_PER_PIXEL = {"png": 0, "jpeg": 0, "webp": 8}

pytestmark = [pytest.mark.load, pytest.mark.timeout(2 * TIMEOUT_S)]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """The shipped model with the settings as shipped, after a request of an everyday size."""
    with running_server("default") as server:
        with grpc.insecure_channel(server.target) as channel:
            request = pb.EncodeRequest(image=types.Image(encoded=flat(640 * 480, "jpeg")))
            tokenizer_service_pb2_grpc.TokenizerServiceStub(channel).Encode(request, timeout=TIMEOUT_S)
        yield server


def flat(area_px: int, format: str) -> bytes:
    """A square of this many pixels: a small file, so that its pixels are what takes memory."""
    side = int(area_px**0.5)
    out = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 60)).save(out, format)
    return out.getvalue()


def noisy(size_bytes: int) -> bytes:
    """A file of almost this size: it is the messages that take memory."""
    side = int((size_bytes / 3) ** 0.5) - 4
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "png", compress_level=0)
    return out.getvalue()


def grown_mib(server: ServerProcess, file: bytes) -> tuple[float, Counter[str]]:
    """By how much the server's peak rises over what it has now, and what became of the calls."""
    before_mib = resident_mib(server.pid)
    with grpc.insecure_channel(server.target, [("grpc.enable_retries", 0)]) as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        request = pb.EncodeRequest(image=types.Image(encoded=file))
        calls = [stub.Encode.future(request, timeout=TIMEOUT_S) for _ in range(CALLS)]
        ends = Counter(end_of(call) for call in calls)
    return peak_resident_mib(server.pid) - before_mib, ends


def end_of(call: grpc.Future) -> str:
    error = call.exception()
    return "OK" if error is None else str(service_error(error).metadata.get("bound", error))


def check(server: ServerProcess, file: bytes, most_mib: float) -> None:
    grown, ends = grown_mib(server, file)
    assert grown <= most_mib, ends
    # What did not fit was refused, and everything else answered.
    assert set(ends) == {"OK", "queue_bytes"}
    assert server.process.poll() is None


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_sixty_four_pictures_of_the_most_pixels_stay_within_the_memory_set_aside(server, format):
    file = flat(SETTINGS.max_image_area_px, format)
    extra_mib = EXTRA_BYTES_PER_PIXEL[format] * SETTINGS.max_image_area_px / MIB
    check(server, file, ASIDE_MIB + extra_mib + COPIES * CALLS * len(file) / MIB)


def test_sixty_four_of_the_largest_files_take_that_and_their_messages(server):
    file = noisy(SETTINGS.max_image_size_bytes)
    assert len(file) > 0.99 * SETTINGS.max_image_size_bytes
    check(server, file, ASIDE_MIB + COPIES * CALLS * len(file) / MIB)


def test_bulk_streams_of_the_largest_files_take_what_the_formula_says(server):
    file, items = noisy(SETTINGS.max_image_size_bytes), 6
    streams = SETTINGS.max_bulk_streams
    before_mib = resident_mib(server.pid)
    with ThreadPoolExecutor(streams) as pool:
        answered = list(pool.map(lambda _: answered_items(server, file, items), range(streams)))
    assert answered == [items] * streams
    messages_mib = COPIES_PER_STREAM * streams * SETTINGS.max_request_size_bytes / MIB
    assert peak_resident_mib(server.pid) - before_mib <= ASIDE_MIB + messages_mib


def answered_items(server: ServerProcess, file: bytes, items: int) -> int:
    """How many pictures of one stream are encoded."""
    request = pb.EncodeRequest(image=types.Image(encoded=file))
    # A connection of its own.
    with grpc.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        many = (pb.EncodeManyRequest(item_id=number, request=request) for number in range(items))
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        return sum(one.HasField("response") for one in stub.EncodeMany(many, timeout=TIMEOUT_S))
