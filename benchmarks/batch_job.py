"""`tessera batch encode` as a process that is measured: seconds, rate between shards, memory. Linux only."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

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
    """Between the first finished shard and the last: without the start."""
    memory: list[Memory] = field(default_factory=list)


def measure_job(sources: Sequence[Path], out: Path, *options: object) -> JobRun:
    """Run it; raises RuntimeError with its words if it fails."""
    command = [
        sys.executable,
        "-c",
        _COMMAND,
        "batch",
        "encode",
        *map(str, (*sources, "--out", out, *options)),
    ]
    started, started_s = time.time(), time.perf_counter()
    with (out.parent / f"{out.name}.log").open("w+") as log:
        job = subprocess.Popen(command, stdout=log, stderr=log)
        memory = []
        while job.poll() is None:
            if (sample := _memory(job.pid, out)) is not None:
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
    (first, first_pictures), (last, _) = done[0], done[-1]
    between = total - first_pictures
    ms = 1000 * (last - first) / between if between else 1000 * seconds / total
    return JobRun(seconds, total, first - started, ms, memory)


def _memory(parent: int, out: Path) -> Memory | None:
    """None before the first shard is done, or when the job ends meanwhile."""
    try:
        done = sum(_pictures(path) for path in (out / "reports").glob("*.json"))
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if done and children:
            return Memory(done, resident_mib(parent), max(resident_mib(child) for child in children))
    except (OSError, KeyError, ValueError):
        pass
    return None


@cache  # a report never changes: a long job must not be slowed down by who looks at it
def _pictures(report: Path) -> int:
    content = json.loads(report.read_text())
    return int(content["pictures"]) + len(content["errors"])
