"""`tessera batch encode` as a process that is measured: seconds, rate between shards, memory. Linux only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.memory import resident_mib

_COMMAND = "from serving.cli import main; main()"
# Often enough to see a peak, seldom enough to cost nothing.
_SAMPLE_EVERY_S = 0.5


@dataclass(slots=True)
class Memory:
    """Resident MiB at some number of finished pictures."""

    pictures: int
    parent_mib: float
    worker_mib: float
    """Of the largest worker."""


@dataclass(slots=True)
class JobRun:
    """What was seen of a job from outside."""

    seconds: float
    pictures: int
    first_s: float
    """Until the first shard was done."""
    ms_per_picture: float
    """Slope of the line through the moments at which shards were done: without the start."""
    memory: list[Memory] = field(default_factory=list)


def job_command(sources: Sequence[Path], out: Path, *options: object) -> list[str]:
    """What runs it with this Python."""
    command = [sys.executable, "-c", _COMMAND, "batch", "encode"]
    return [*command, *map(str, (*sources, "--out", out, *options))]


def measure_job(sources: Sequence[Path], out: Path, *options: object) -> JobRun:
    """Run it; raises RuntimeError with its words if it fails."""
    started, started_s = time.time(), time.perf_counter()
    with (out.parent / f"{out.name}.log").open("w+") as log:
        job = subprocess.Popen(job_command(sources, out, *options), stdout=log, stderr=log)
        memory, reports = [], _Reports(out / "reports")
        while job.poll() is None:
            if (sample := _memory(job.pid, reports)) is not None:
                memory.append(sample)
            time.sleep(_SAMPLE_EVERY_S if memory else 0.05)
        seconds = time.perf_counter() - started_s
        log.seek(0)
        if job.returncode:
            raise RuntimeError(log.read())
    return _as_run(out, seconds, started, memory)


def _as_run(out: Path, seconds: float, started: float, memory: list[Memory]) -> JobRun:
    done = sorted((path.stat().st_mtime, _pictures(path)) for path in (out / "reports").glob("*.json"))
    total = sum(pictures for _, pictures in done)
    ms = ms_per_picture(done) if len(done) > 1 else 1000 * seconds / total
    return JobRun(seconds, total, done[0][0] - started, ms, memory)


def ms_per_picture(done: Sequence[tuple[float, int]]) -> float:
    """From (second, pictures) of at least two shards in the order in which they were done.

    A line through all of them: from the first to the last, ten shards of two even workers seem 11 % faster
    than a thousand, since two are done at the first moment and only one is left out.
    """
    seconds, pictures = np.asarray(done, np.float64).T
    return 1000 * float(np.polyfit(np.cumsum(pictures), seconds - seconds[0], 1)[0])


def _memory(parent: int, reports: _Reports) -> Memory | None:
    """None before the first shard is done, or when the job ends meanwhile."""
    try:
        done = reports.pictures()
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if done and children:
            return Memory(done, resident_mib(parent), max(resident_mib(child) for child in children))
    except (OSError, KeyError, ValueError):
        pass
    return None


class _Reports:
    """Reads each report once: a long job must not be slowed down by who looks at it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._seen, self._pictures = folder, set[str](), 0

    def pictures(self) -> int:
        """So many are done."""
        new = {name for name in os.listdir(self._folder) if name.endswith(".json")} - self._seen
        self._pictures += sum(_pictures(self._folder / name) for name in new)
        self._seen |= new
        return self._pictures


def _pictures(report: Path) -> int:
    content = json.loads(report.read_text())
    return int(content["pictures"]) + len(content["errors"])
