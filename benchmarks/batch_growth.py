"""Does a picture of `tessera batch encode` cost more in a larger data set?

    python -m benchmarks.batch_growth [--counts 1000 10000 100000] [--rounds 3] [--processes N]

Jobs over generated pictures of 32x32. Prints and writes `benchmarks/results/batch_growth.{md,json}`:
milliseconds per picture, the slope of the line through the moments at which shards were done, so without the
start, and the memory of the job.

A shared machine is a fifth faster or slower from one minute to the next. So sizes take turns, half of the
small jobs before the largest, which runs once, and each size is held against the next smaller one by jobs
that ran next to each other: by the median of such ratios, for the largest by the mean of the jobs before
and after it.

There are at most as many processes as leave each four shards of the smallest job.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.batch_job import JobRun, measure_job
from benchmarks.batch_shards import write_shards
from benchmarks.command import write_results
from benchmarks.report import RESULTS, environment, environment_line, markdown_table, number, percent
from benchmarks.serving_runs import spread
from serving.cpu import available_cpu_count

COUNTS = (1_000, 10_000, 100_000)
SIDE_PX, TOKENS, SHARD = 32, 16, 100
MOST_GROWTH = 0.1
_LEAST_SHARDS_EACH = 4


@dataclass(frozen=True, slots=True)
class Growth:
    """Jobs of one size."""

    pictures: int
    ms: list[float]
    """Per picture, of each job."""
    share: float
    """Against the smallest size."""
    seconds: float
    """Start to end."""
    job_mib: float
    """Of the process that leads, at its largest."""


def small_pictures(count: int, folder: Path) -> list[Path]:
    """Tar shards of generated PNGs; a thousand different ones."""
    random, pictures = np.random.default_rng(0), []
    for _ in range(min(count, 1000)):
        pixels = np.kron(random.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX)).save(out, "PNG")
        pictures.append((".png", out.getvalue()))
    return write_shards(folder, islice(cycle(pictures), count))


def measure(counts: Sequence[int], rounds: int, processes: int, folder: Path) -> list[Growth]:
    """All sizes, in turns."""
    workers = max(1, min(processes, counts[0] // SHARD // _LEAST_SHARDS_EACH))
    options = ("--workers", workers, "--coding", "fixed", "--max-tokens", TOKENS, "--shard-size", SHARD)
    shards = {count: small_pictures(count, folder / f"{count}") for count in counts}
    runs: dict[int, list[JobRun]] = {count: [] for count in counts}
    for place, count in enumerate(in_turns(counts, rounds)):
        runs[count].append(measure_job(shards[count], folder / f"job-{place}", *options))
        print(f"{count} pictures: {runs[count][-1].ms_per_picture:.2f} ms each", flush=True)
    return summary([runs[count] for count in counts])


def in_turns(counts: Sequence[int], rounds: int) -> list[int]:
    """Each but the largest `rounds` times, half of them before the largest.

    >>> in_turns([1, 2, 9], 3)
    [1, 2, 9, 1, 2, 1, 2]
    """
    *small, largest = counts
    before = rounds // 2
    return [*(small * before), largest, *(small * (rounds - before))]


def summary(runs: Sequence[Sequence[JobRun]]) -> list[Growth]:
    """Of the jobs of each size, smallest first, in the order in which they ran."""
    found: list[Growth] = []
    for size in runs:
        ms = [run.ms_per_picture for run in size]
        seconds = statistics.median(run.seconds for run in size)
        job_mib = max((one.parent_mib for run in size for one in run.memory), default=0.0)
        share = found[-1].share * _against(ms, found[-1].ms) if found else 1.0
        found.append(Growth(size[0].pictures, ms, share, seconds, job_mib))
    return found


def _against(ms: Sequence[float], smaller: Sequence[float]) -> float:
    """Ratio of jobs that ran next to each other."""
    if len(ms) == len(smaller):
        return statistics.median(a / b for a, b in zip(ms, smaller, strict=True))
    before = len(smaller) // 2
    return ms[0] / statistics.mean(smaller[max(0, before - 1) : before + 1])


def page(found: Sequence[Growth], processes: int) -> str:
    """The figures as a page."""
    header = ["pictures", "jobs", "ms each", "against the smallest", "seconds with the start", "job, MiB"]
    rows = [
        [
            str(one.pictures),
            str(len(one.ms)),
            spread(one.ms),
            percent(one.share),
            number(one.seconds, 1),
            number(one.job_mib, 0),
        ]
        for one in found
    ]
    is_flat = all(one.share <= 1 + MOST_GROWTH for one in found)
    return f"""# Batch jobs as data sets grow

Pictures of {SIDE_PX}x{SIDE_PX}, {TOKENS} tokens, shards of {SHARD}, {processes} processes. Written by
`python -m benchmarks.batch_growth`, which says what is measured. No size more than {percent(MOST_GROWTH)}
above the smallest: {"met" if is_flat else "**missed**"}. Medians (least … most):

{markdown_table(header, rows)}

{environment_line()}
"""


def main() -> None:
    """Measure, print, write."""
    arguments = _parse()
    # Read by numpy's library in every process that is started from here.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        found = measure(arguments.counts, arguments.rounds, arguments.processes, Path(name))
    content = {
        "processes": arguments.processes,
        "sizes": [asdict(one) for one in found],
        "environment": environment(),
    }
    write_results(arguments.results / "batch_growth", page(found, arguments.processes), content)


def _parse() -> argparse.Namespace:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="rising")
    command.add_argument("--rounds", type=int, default=3, help="jobs of each size but the largest")
    command.add_argument("--processes", type=int, default=available_cpu_count())
    command.add_argument("--folder", type=Path, help="for temporary files; else the system's")
    command.add_argument("--results", type=Path, default=RESULTS)
    return command.parse_args()


if __name__ == "__main__":
    main()
