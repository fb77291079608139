"""Decoding in processes: the same pixels and errors as in threads, and a worker that ends is replaced."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving import isolated_pictures
from serving.isolated_pictures import IsolatedPicturePool
from serving.pictures import PicturePool
from serving.reloaded_files import SetupError
from serving.status import DecoderLost
from tokenizer import errors
from tokenizer.images import ImageLimits

LIMITS = ImageLimits(max_pixels=4_000_000)
MAX_PIXELS = 4_000_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def file_of(pixels: np.ndarray, format: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=format, **options)
    return out.getvalue()


GRADIENT = np.arange(200 * 300 * 3, dtype=np.uint32).reshape(200, 300, 3).astype(np.uint8)
PNG = file_of(GRADIENT)


@pytest.fixture
def restarts() -> list[int]:
    return []


@pytest.fixture
def start(restarts) -> Iterator[Callable[..., IsolatedPicturePool]]:
    """Start pools; all are stopped at the end."""
    started: list[IsolatedPicturePool] = []

    def start(count: int = 1, *, timeout_s: float = 30.0) -> IsolatedPicturePool:
        pool = IsolatedPicturePool(
            count, max_pixels=MAX_PIXELS, timeout_s=timeout_s, on_restart=lambda: restarts.append(1)
        )
        started.append(pool)
        return pool

    yield start
    for pool in started:
        pool.stop()


def read(pool: PicturePool, file: bytes, limits: ImageLimits = LIMITS) -> np.ndarray:
    return asyncio.run(pool.read(file, limits))


def after_pausing(pid: int, number: signal.Signals) -> None:
    """The worker stops, gets a signal a moment later, and goes on to meet it, picture in hand."""
    os.kill(pid, signal.SIGSTOP)

    def go_on() -> None:
        time.sleep(0.2)
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)

    threading.Thread(target=go_on).start()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_process_gives_the_pixels_that_a_thread_gives(start, format):
    file = file_of(GRADIENT, format)
    threads = PicturePool(1)
    np.testing.assert_array_equal(read(start(), file), read(threads, file))
    threads.stop()


@pytest.mark.parametrize(
    ("file", "limits", "kind"),
    [
        (b"GIF89a" + bytes(20), LIMITS, errors.ImageFormatUnsupported),
        (PNG[:-200], LIMITS, errors.ImageCorrupt),
        (PNG, ImageLimits(max_pixels=100), errors.ImageTooLarge),
        (b"", LIMITS, errors.ImageMissing),
        (
            file_of(GRADIENT, "WEBP", save_all=True, append_images=[Image.new("RGB", (300, 200))]),
            LIMITS,
            errors.ImageAnimated,
        ),
    ],
)
def test_a_bad_picture_is_the_same_error_and_ends_no_worker(start, restarts, file, limits, kind):
    pool = start()
    with pytest.raises(kind):
        read(pool, file, limits)
    assert read(pool, PNG).shape == GRADIENT.shape
    assert restarts == []


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_picture_that_crashes_the_decoder_is_corrupt_and_the_next_one_is_served(start, restarts, number):
    pool = start()
    after_pausing(pool.process_ids[0], number)
    with pytest.raises(errors.ImageCorrupt, match=f"ended with -{number.value}"):
        read(pool, PNG)
    np.testing.assert_array_equal(read(pool, PNG), GRADIENT)
    assert restarts == [1]


def test_a_decoder_killed_from_outside_is_an_error_worth_a_retry(start, restarts):
    pool = start()
    after_pausing(pool.process_ids[0], signal.SIGKILL)
    with pytest.raises(DecoderLost) as caught:
        read(pool, PNG)
    assert caught.value.retry_after_s
    np.testing.assert_array_equal(read(pool, PNG), GRADIENT)
    assert restarts == [1]


def test_a_decoder_killed_while_idle_costs_no_request(start, restarts):
    pool = start()
    os.kill(pool.process_ids[0], signal.SIGKILL)
    time.sleep(0.1)
    np.testing.assert_array_equal(read(pool, PNG), GRADIENT)
    assert restarts == [1]


def test_a_picture_that_takes_too_long_is_corrupt_and_its_worker_is_replaced(start, restarts):
    pool = start(timeout_s=0.5)
    os.kill(pool.process_ids[0], signal.SIGSTOP)
    with pytest.raises(errors.ImageCorrupt, match=r"no answer within 0\.5 s"):
        read(pool, PNG)
    np.testing.assert_array_equal(read(pool, PNG), GRADIENT)
    assert restarts == [1]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("b'?'", "made no sense"),
        ("b'P' + (60000).to_bytes(4) + (60000).to_bytes(4)", "beyond the limits"),
        ("b'P' + bytes(8)", "beyond the limits"),
        ("b'E' + (2**31).to_bytes(4)", "had no end"),
        ("b'E' + (4).to_bytes(4) + b'null'", "made no sense"),
        ("b'E' + (17).to_bytes(4) + b'{\"kind\": \"eval\"}' + b' '", "made no sense"),
    ],
)
def test_a_worker_that_a_picture_took_over_is_believed_nothing(start, restarts, monkeypatch, answer, says):
    script = f"import os, time; os.write(1, b'R'); os.read(0, 8); os.write(1, {answer}); time.sleep(60)"
    monkeypatch.setattr(isolated_pictures, "_command", lambda *_: (sys.executable, "-c", script))
    with pytest.raises(errors.ImageCorrupt, match=says):
        read(start(), PNG)
    assert restarts == [1]


def test_workers_that_do_not_start_are_an_error_at_the_start(start, monkeypatch):
    monkeypatch.setattr(isolated_pictures, "_command", lambda *_: (sys.executable, "-c", "exit(3)"))
    with pytest.raises(SetupError, match="does not start: the decoder ended with 3"):
        start()


def test_stopping_ends_every_process_and_leaves_no_zombie(start):
    pool = start(2)
    ids = pool.process_ids
    assert len(ids) == 2
    pool.stop()
    for pid in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_stopping_does_not_wait_for_a_picture_in_work(start):
    pool = start()
    os.kill(pool.process_ids[0], signal.SIGSTOP)

    async def stop_while_reading() -> None:
        reading = asyncio.create_task(pool.read(PNG, LIMITS))
        await asyncio.sleep(0.2)
        pool.stop()
        with pytest.raises(DecoderLost):
            await asyncio.wait_for(reading, 10)

    asyncio.run(stop_while_reading())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_for_the_whole_group_leave_the_workers_to_the_drain(start, restarts, number):
    pool = start()
    os.kill(pool.process_ids[0], number)
    time.sleep(0.1)
    np.testing.assert_array_equal(read(pool, PNG), GRADIENT)
    assert restarts == []


@linux
def test_a_worker_has_no_secrets_no_sockets_and_narrow_limits(start, monkeypatch):
    monkeypatch.setenv("TESSERA_SECRET", "s3cret")
    pool = start()
    read(pool, PNG)
    process = Path(f"/proc/{pool.process_ids[0]}")
    assert b"s3cret" not in (process / "environ").read_bytes()
    kinds = {os.readlink(link).partition(":")[0] for link in (process / "fd").iterdir()}
    assert kinds <= {"pipe", "/dev/null"}
    limits = {
        line[:26].strip(): line[26:].split()[0] for line in (process / "limits").read_text().splitlines()
    }
    assert limits["Max file size"] == limits["Max core file size"] == "0"
    assert int(limits["Max open files"]) <= 32
    assert int(limits["Max address space"]) < 2**30


@linux
def test_memory_beyond_the_bound_is_an_error_of_the_picture_and_not_of_the_machine(start):
    pool = start()
    # Legal by the limits of this call, but far above what the workers were started for.
    huge = file_of(np.zeros((10_000, 11_000), np.uint8), compress_level=1)
    with pytest.raises(errors.ImageCorrupt):
        read(pool, huge, ImageLimits(max_pixels=300_000_000))
    np.testing.assert_array_equal(read(pool, PNG), GRADIENT)
