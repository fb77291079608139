"""What decoding pictures in processes costs over threads, and why pixels come back through a pipe.

    python -m benchmarks.decode_isolation [--runs 15]

Prints and writes `benchmarks/results/decode_isolation.{md,json}`: the median time in milliseconds

* to decode a JPEG of three sizes as a server does, in a thread and in a worker process;
* to bring as many bytes from another process through a pipe and through a new segment of shared memory;

and the resident memory of a worker. The cases of one size take turns, so that a busy machine disturbs them
alike: read the ratios rather than the times.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.memory import resident_mib
from benchmarks.report import RESULTS, environment, environment_line, markdown_table, number, write_json
from serving.isolated_pictures import IsolatedPicturePool
from serving.pictures import PicturePool
from tokenizer.images import ImageLimits, write_image

SIZES_PX = ((256, 256), (1024, 1024), (4000, 3000))
TIMEOUT_S = 60.0
NAME_BYTES = 32

# Answers each line of 32 bytes: a name of shared memory to fill, or, if it is blank, nothing but the bytes.
_SENDER = """
import os, sys
from multiprocessing.shared_memory import SharedMemory
data = memoryview(bytes(int(sys.argv[1])))
while line := os.read(0, 32):
    if name := line.decode().strip():
        segment = SharedMemory(name)
        segment.buf[:len(data)] = data
        segment.close()
        os.write(1, b"!")
    else:
        rest = data
        while rest:
            rest = rest[os.write(1, rest):]
"""


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one size."""

    width_px: int
    height_px: int
    thread_ms: float
    process_ms: float
    pipe_ms: float
    shared_memory_ms: float


class Sender:
    """Another process that has bytes for us."""

    def __init__(self, size_bytes: int) -> None:
        command = (sys.executable, "-c", _SENDER, str(size_bytes))
        # Its own tracker of shared memory complains at the end about segments that we removed.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self._size_bytes = size_bytes

    def through_pipe(self) -> None:
        """Receive the bytes into a new array."""
        self._ask("")
        target = np.empty(self._size_bytes, np.uint8).data
        while target:
            target = target[self._process.stdout.readinto(target) :]

    def through_shared_memory(self) -> None:
        """Let the bytes be written to a segment, and copy them, since the segment has to go."""
        segment = SharedMemory(create=True, size=self._size_bytes)
        self._ask(segment.name)
        self._process.stdout.read(1)
        np.empty(self._size_bytes, np.uint8).data[:] = segment.buf[: self._size_bytes]
        segment.close()
        segment.unlink()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, name: str) -> None:
        self._process.stdin.write(name.encode().ljust(NAME_BYTES))


def measure(size_px: tuple[int, int], runs: int, threads: PicturePool, processes: PicturePool) -> Row:
    """All four cases in turns."""
    width, height = size_px
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x, y, x + y], axis=2).astype(np.uint8)
    file = write_image(pixels, "jpeg")
    sender = Sender(pixels.nbytes)

    def decode(pool: PicturePool) -> None:
        asyncio.run(pool.read(file, ImageLimits()))

    cases = (
        lambda: decode(threads),
        lambda: decode(processes),
        sender.through_pipe,
        sender.through_shared_memory,
    )
    times_ms = [[_time_ms(case) for case in cases] for _ in range(runs + 1)][1:]
    sender.close()
    return Row(width, height, *(median(column) for column in zip(*times_ms, strict=True)))


def _time_ms(case: Callable[[], None]) -> float:
    start = time.perf_counter()
    case()
    return 1000 * (time.perf_counter() - start)


def page(rows: Sequence[Row], worker_mib: float) -> str:
    """The result as Markdown."""
    header = ("picture", "thread", "process", "pipe", "shared memory")
    cells = [
        (
            f"{row.width_px}x{row.height_px}",
            *(number(t) for t in (row.thread_ms, row.process_ms, row.pipe_ms, row.shared_memory_ms)),
        )
        for row in rows
    ]
    return (
        "# Decoding in processes\n\nMedian milliseconds to decode a JPEG, and to bring as many bytes from "
        f"another process.\n\n{markdown_table(header, cells)}\n\n"
        f"A worker takes {worker_mib:.0f} MiB.\n\n{environment_line()}\n"
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    threads = PicturePool(1)
    processes = IsolatedPicturePool(
        1, max_pixels=ImageLimits().max_pixels, timeout_s=TIMEOUT_S, on_restart=lambda: None
    )
    worker_mib = resident_mib(processes.process_ids[0])
    rows = [measure(size, arguments.runs, threads, processes) for size in SIZES_PX]
    for pool in (threads, processes):
        pool.stop()
    text = page(rows, worker_mib)
    print(text)
    content = {"rows": [asdict(row) for row in rows], "worker_mib": worker_mib, "environment": environment()}
    write_json(arguments.results / "decode_isolation.json", content)
    (arguments.results / "decode_isolation.md").write_text(text)


if __name__ == "__main__":
    main()
