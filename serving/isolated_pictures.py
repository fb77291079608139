"""Pictures decoded in processes of their own, for files of strangers. Starts, watches and replaces them.

    one of our threads ── file ──> worker process (picture_worker)
                       <─ pixels ─

    what ends the worker                         the caller gets
    the picture: a crash, too much time,         ImageCorrupt; trying again would end the next worker
      or an answer that makes no sense
    anything else: killed, out of memory         DecoderLost: try again, the next worker is on its way

A pipe carries the pixels: shared memory was at least twice as slow, since each segment is mapped anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import IO

import numpy as np
import structlog

from serving import picture_worker as worker
from serving.commands import Pixels
from serving.config import ServingConfig
from serving.metrics.security import SecurityMetrics
from serving.pictures import PicturePool
from serving.reloaded_files import SetupError
from serving.status import DecoderLost
from tokenizer import errors
from tokenizer.images import ImageLimits

# Imports take most of a second on an idle machine.
_START_TIMEOUT_S = 60.0
_RETRY_AFTER_S = 1.0
_MAX_FAILURE_BYTES = 65_536

# Signals that a process brings upon itself; any other end came from outside.
_OWN_FAULT = {
    -number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
}
_KINDS = {
    kind.__name__: kind
    for kind in (
        errors.ImageMissing,
        errors.ImageFormatUnsupported,
        errors.ImageCorrupt,
        errors.ImageTooLarge,
        errors.ImageAnimated,
        errors.ImageModeUnsupported,
    )
}
# What the worker needs to find Python's libraries; nothing else of ours is its business.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "NUMBA_CACHE_DIR")

# glibc gives freed memory back after each picture unless told otherwise, and most of the time then went into
# getting the same pages again. A worker keeps at most this much.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**26)}
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

_log = structlog.get_logger("tessera.pictures")


def open_pictures(config: ServingConfig, metrics: SecurityMetrics) -> PicturePool:
    """The pool that the settings ask for. Raises SetupError if its processes do not start."""
    count = config.effective_image_threads
    if config.decode_isolation == "thread":
        return PicturePool(count)
    return IsolatedPicturePool(
        count,
        max_pixels=config.max_image_area_px,
        timeout_s=config.decode_timeout_s,
        on_restart=lambda: metrics.worker_restarted("decode"),
    )


class IsolatedPicturePool(PicturePool):
    """As many worker processes as threads, so that a thread never waits for one."""

    def __init__(
        self, count: int, *, max_pixels: int, timeout_s: float, on_restart: Callable[[], None]
    ) -> None:
        """Raises SetupError if the workers do not start."""
        super().__init__(count)
        self._command = _command(max_pixels, timeout_s)
        self._timeout_s = timeout_s
        self._on_restart = on_restart
        self._lock = threading.Lock()
        self._stopped = False
        self._all: set[_Worker] = set()
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        try:
            for fresh in [self._start() for _ in range(count)]:
                self._idle.put(fresh)
                fresh.await_ready()
        except (OSError, _WorkerEnded) as error:
            self.stop()
            raise SetupError(f"a process for decoding pictures does not start: {error}") from error

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that are there now."""
        with self._lock:
            return [one.process.pid for one in self._all]

    def stop(self) -> None:
        """End the processes at once."""
        super().stop()
        with self._lock:
            self._stopped = True
            remaining = list(self._all)
        for one in remaining:
            one.kill()
        # A worker that is in use is closed by the thread that uses it, which now sees its end.
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _decode(self, file: bytes, limits: ImageLimits) -> Pixels:
        current = self._idle.get()
        try:
            if current.process.poll() is not None:
                current = self._replace(current, "died while idle")
            return current.decode(file, limits, self._timeout_s)
        except _WorkerEnded as ended:
            current = self._replace(current, str(ended))
            if ended.by_picture:
                raise errors.ImageCorrupt(f"decoding this picture was stopped: {ended}") from ended
            raise DecoderLost("a decoder was lost; try again", retry_after_s=_RETRY_AFTER_S) from ended
        except errors.ImageError:
            raise
        except BaseException:
            # Half an answer may be in the pipe, and would be taken for that to the next picture.
            current = self._replace(current, "its answer was not read to the end")
            raise
        finally:
            self._idle.put(current)

    def _replace(self, dead: _Worker, why: str) -> _Worker:
        dead.kill()
        dead.close()
        with self._lock:
            self._all.discard(dead)
        self._on_restart()
        _log.warning("decoder replaced", why=why, exit_code=dead.process.returncode)
        return self._start()

    def _start(self) -> _Worker:
        with self._lock:
            if self._stopped:
                raise DecoderLost("this server is shutting down", retry_after_s=0.0)
            fresh = _Worker(self._command)
            self._all.add(fresh)
            return fresh


class _WorkerEnded(Exception):
    """A worker is gone, or must go; `by_picture` if the picture is to blame."""

    def __init__(self, text: str, *, by_picture: bool) -> None:
        super().__init__(text)
        self.by_picture = by_picture


class _Worker:
    """One process and its two pipes. Used by one thread at a time."""

    def __init__(self, command: tuple[str, ...]) -> None:
        # Its stderr would break the lines of our log.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._to: IO[bytes] = self.process.stdin
        self._from: IO[bytes] = self.process.stdout
        self._is_ready = False

    def await_ready(self) -> None:
        """Wait until the imports are done. Raises _WorkerEnded."""
        if not self._is_ready:
            with _Watchdog(self.process, _START_TIMEOUT_S, by_picture=False):
                self._expect_ready()
            self._is_ready = True

    def decode(self, file: bytes, limits: ImageLimits, timeout_s: float) -> Pixels:
        """Raises ImageError for what the worker says, _WorkerEnded if it says nothing."""
        self.await_ready()
        with _Watchdog(self.process, timeout_s, by_picture=True):
            self._send(file, limits)
            kind = self._receive(1)
            if kind == worker.DONE:
                return self._receive_pixels(limits)
            if kind == worker.REFUSED:
                error = self._receive_failure()
            else:
                raise _WorkerEnded("its answer made no sense", by_picture=True)
        raise error

    def kill(self) -> None:
        """End it, and leave no zombie."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Give up the pipes."""
        self._to.close()
        self._from.close()

    def _send(self, file: bytes, limits: ImageLimits) -> None:
        text = json.dumps(asdict(limits)).encode()
        try:
            for part in (worker.REQUEST.pack(len(text), len(file)) + text, file):
                rest = memoryview(part)
                while rest:
                    rest = rest[self._to.write(rest) :]
        except BrokenPipeError:
            raise self._ended() from None

    def _expect_ready(self) -> None:
        if self._receive(1) != worker.READY:
            raise _WorkerEnded("its first word made no sense", by_picture=False)

    def _receive_pixels(self, limits: ImageLimits) -> Pixels:
        height, width = worker.PIXELS.unpack(self._receive(worker.PIXELS.size))
        # A worker that a picture has taken over may claim anything.
        if not (0 < height * width <= limits.max_pixels and max(height, width) <= limits.max_side_px):
            raise _WorkerEnded("it claimed a picture beyond the limits", by_picture=True)
        pixels = np.empty((height, width, 3), np.uint8)
        self._receive_into(pixels.data.cast("B"))
        return pixels

    def _receive_failure(self) -> errors.ImageError:
        (size,) = worker.FAILURE.unpack(self._receive(worker.FAILURE.size))
        if size > _MAX_FAILURE_BYTES:
            raise _WorkerEnded("its error had no end", by_picture=True)
        try:
            body = json.loads(self._receive(size))
            return _KINDS[body["kind"]](str(body["text"]))
        except (ValueError, KeyError, TypeError) as error:
            raise _WorkerEnded("its error made no sense", by_picture=True) from error

    def _receive(self, size: int) -> bytes:
        data = bytearray(size)
        self._receive_into(memoryview(data))
        return bytes(data)

    def _receive_into(self, rest: memoryview) -> None:
        while rest:
            count = self._from.readinto(rest)  # type: ignore[attr-defined]  # raw, since bufsize is 0
            if not count:
                raise self._ended()
            rest = rest[count:]

    def _ended(self) -> _WorkerEnded:
        """Why nothing comes any more."""
        code = self.process.wait()
        return _WorkerEnded(f"the decoder ended with {code}", by_picture=code in _OWN_FAULT)


class _Watchdog:
    """Kills the process if the block takes too long, and then says so instead of what that caused."""

    def __init__(self, process: subprocess.Popen[bytes], timeout_s: float, *, by_picture: bool) -> None:
        self._process = process
        self._by_picture = by_picture
        self._timeout_s = timeout_s
        self._has_bitten = False
        self._timer = threading.Timer(timeout_s, self._bite)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_exc: object) -> None:
        self._timer.cancel()
        self._timer.join()
        if self._has_bitten:
            text = f"no answer within {self._timeout_s:g} s"
            raise _WorkerEnded(text, by_picture=self._by_picture) from None

    def _bite(self) -> None:
        self._has_bitten = True
        self._process.kill()


def _command(max_pixels: int, timeout_s: float) -> tuple[str, ...]:
    # -P: the folder we were started in is nobody's library.
    return (sys.executable, "-P", "-m", "serving.picture_worker", str(max_pixels), str(timeout_s))


def _environment() -> dict[str, str]:
    """Our libraries, and how to use memory and threads; no setting and no secret of ours."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | _KEEP_MEMORY | _ONE_THREAD | {"PYTHONPATH": path}
