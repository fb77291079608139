"""A process that decodes picture files for the server and can do little else.

    stdin    two sizes, JSON of the limits, file      one picture each; the end of stdin ends the process
    stdout   b"R" once it is ready, then for each picture
             b"P", height, width, pixels   or   b"E", size, JSON of a TokenizerError

Its bytes are data to the server, never code: no pickle crosses the pipe. What it may use is bounded before
the first picture comes; it sees neither the environment nor the sockets of the server.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import struct
import sys
from typing import BinaryIO

from tokenizer.errors import TokenizerError
from tokenizer.images import SERVICE_FORMATS, ImageLimits, read_image

REQUEST = struct.Struct(">II")
"""Sizes of the JSON of the limits and of the file."""
PIXELS = struct.Struct(">II")
"""Height and width; 3 bytes per pixel follow."""
FAILURE = struct.Struct(">I")
"""Size of the JSON that follows."""

READY, DONE, REFUSED = b"R", b"P", b"E"

# Reading takes 8 bytes per pixel, and a WebP 16 inside Pillow; the rest is room for what a decoder maps.
PEAK_BYTES_PER_PIXEL = 24
_SPARE_BYTES = 256 * 2**20
# Pillow opens a file now and then; a decoder has no use for more.
_MAX_OPEN_FILES = 32
# The server's own clock ends a decode first; this ends one whose server is gone.
_ALARM_GRACE_S = 2.0


def main(max_pixels: int, timeout_s: float) -> None:
    """Decode until stdin ends."""
    # Signals that are meant for the server reach its whole group; we end with its pipe, after its drain.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    confine(max_pixels)
    gc.freeze()
    with open(0, "rb") as source, open(_own_stdout(), "wb", buffering=0) as sink:
        _send(sink, READY)
        while head := source.read(REQUEST.size):
            limits_size, file_size = REQUEST.unpack(head)
            limits = ImageLimits(**json.loads(source.read(limits_size)))
            file = source.read(file_size)
            signal.setitimer(signal.ITIMER_REAL, timeout_s + _ALARM_GRACE_S)
            _answer(sink, file, limits)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _own_stdout() -> int:
    """The pipe to the server, where a library that prints does not reach it."""
    ours = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return ours


def confine(max_pixels: int) -> None:
    """Bound memory and files. Not the number of threads: libwebp fails where it gets none."""
    if sys.platform == "linux":  # elsewhere the limit is ignored, or counts what was mapped before
        room = _address_space_bytes() + max_pixels * PEAK_BYTES_PER_PIXEL + _SPARE_BYTES
        _bound(resource.RLIMIT_AS, room)
    _bound(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    _bound(resource.RLIMIT_FSIZE, 0)  # writes no file; pipes do not count
    _bound(resource.RLIMIT_CORE, 0)  # nor does a crash leave a picture on the disk


def _bound(limit: int, most: int) -> None:
    hard = resource.getrlimit(limit)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(limit, (most, most))


def _address_space_bytes() -> int:
    """What interpreter and libraries take already, most of it never touched."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _answer(sink: BinaryIO, file: bytes, limits: ImageLimits) -> None:
    try:
        pixels = read_image(file, limits=limits, formats=SERVICE_FORMATS)
    except TokenizerError as error:
        body = json.dumps({"kind": type(error).__name__, "text": str(error)}).encode()
        _send(sink, REFUSED + FAILURE.pack(len(body)) + body)
        return
    _send(sink, DONE + PIXELS.pack(*pixels.shape[:2]))
    _send(sink, pixels.data.cast("B"))


def _send(sink: BinaryIO, data: bytes | memoryview) -> None:
    """All of it: a pipe takes 64 KiB at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[sink.write(rest) :]


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
