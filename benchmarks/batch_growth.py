"""Does a picture of `tessera batch encode` cost more in a larger data set?

    python -m benchmarks.batch_growth [--counts 1000 10000 100000] [--rounds 3] [--processes N]

Jobs over generated pictures of 32x32, small ones in between large ones, since a shared machine is faster or
slower from one minute to the next. Prints and writes `benchmarks/results/batch_growth.{md,json}`:

* milliseconds of the clock per picture, the slope of the line through the moments at which shards were done,
  so without the start; the median of all jobs of one size;
* milliseconds of processor time per picture of the job and all its processes, without those of a job of one
  shard per process, in which all that is done once is done. What other guests of the machine take does not
  count here, so this is what must be flat within 10 %;
* the largest worker and the job itself in memory at the end.

There are at most as many processes as leave each four shards of the smallest job. The largest job runs once.
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
from serving.cpu import available_cpu_count

COUNTS = (1_000, 10_000, 100_000)
SIDE_PX, TOKENS, SHARD = 32, 16, 100
MOST_GROWTH = 0.1
_LEAST_SHARDS_EACH = 4


@dataclass(frozen=True, slots=True)
class Growth:
    """Jobs of one size."""

    pictures: int
    jobs: int
    ms: float
    """Of the clock per picture."""
    processor_ms: float
    seconds: float
    """Start to end."""
    parent_mib: float
    worker_mib: float


def small_pictures(count: int, folder: Path) -> list[Path]:
    """Tar shards of generated PNGs; a thousand different ones."""
    random, pictures = np.random.default_rng(0), []
    for _ in range(min(count, 1000)):
        pixels = np.kron(random.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX)).save(out, "PNG")
        pictures.append((".png", out.getvalue()))
    return write_shards(folder, islice(cycle(pictures), count))


def measure(counts: Sequence[int], rounds: int, processes: int, folder: Path) -> tuple[float, list[Growth]]:
    """Processor seconds of the job with one shard each, and all sizes."""
    workers = max(1, min(processes, counts[0] // SHARD // _LEAST_SHARDS_EACH))
    options = ("--workers", workers, "--coding", "fixed", "--max-tokens", TOKENS, "--shard-size", SHARD)
    shards = {count: small_pictures(count, folder / f"{count}") for count in (workers * SHARD, *counts)}
    runs: dict[int, list[JobRun]] = {count: [] for count in shards}
    for place, count in enumerate(_interleaved([workers * SHARD, *counts], rounds)):
        runs[count].append(measure_job(shards[count], folder / f"job-{place}", *options))
        last = runs[count][-1]
        print(
            f"{count} pictures: {last.ms_per_picture:.2f} ms, processor {last.processor_s:.1f} s", flush=True
        )
    once_s = statistics.median(run.processor_s for run in runs[workers * SHARD])
    return once_s, [_summary(runs[count], once_s, workers * SHARD) for count in counts]


def _interleaved(counts: Sequence[int], rounds: int) -> list[int]:
    """Each but the largest `rounds` times, half of them before the largest.

    >>> _interleaved([1, 2, 9], 3)
    [1, 2, 9, 1, 2, 1, 2]
    """
    *small, largest = counts
    before = rounds // 2
    return [*(small * before), largest, *(small * (rounds - before))]


def _summary(runs: Sequence[JobRun], once_s: float, once_pictures: int) -> Growth:
    pictures = runs[0].pictures
    marginal_s = statistics.median(run.processor_s for run in runs) - once_s
    last = [run.memory[-1] for run in runs if run.memory]
    return Growth(
        pictures,
        len(runs),
        statistics.median(run.ms_per_picture for run in runs),
        1000 * marginal_s / (pictures - once_pictures),
        statistics.median(run.seconds for run in runs),
        max((one.parent_mib for one in last), default=0.0),
        max((one.worker_mib for one in last), default=0.0),
    )


def is_flat(found: Sequence[Growth]) -> bool:
    """Whether no size costs a tenth more than the smallest."""
    return all(one.processor_ms <= (1 + MOST_GROWTH) * found[0].processor_ms for one in found)


def page(once_s: float, found: Sequence[Growth], processes: int) -> str:
    """The figures as a page."""
    rows = [
        [
            str(one.pictures),
            str(one.jobs),
            number(one.processor_ms),
            percent(one.processor_ms / found[0].processor_ms),
            number(one.ms),
            number(one.seconds, 1),
            number(one.parent_mib, 0),
            number(one.worker_mib, 0),
        ]
        for one in found
    ]
    header = [
        "pictures",
        "jobs",
        "processor ms each",
        "against the first",
        "ms each",
        "seconds with the start",
    ]
    header += ["seconds with the start", "job, MiB", "largest worker, MiB"]
    verdict = "met" if is_flat(found) else "**missed**"
    return f"""# Batch jobs as data sets grow

Pictures of {SIDE_PX}x{SIDE_PX}, {TOKENS} tokens, shards of {SHARD}, {processes} processes. Written by
`python -m benchmarks.batch_growth`, which says what is measured. Processor time per picture at most
{percent(MOST_GROWTH)} above that of the smallest set: {verdict}.

{markdown_table(header, rows)}

A job with one shard for each process takes {number(once_s, 1)} s of processor time, not counted above.

{environment_line()}
"""


def main() -> None:
    """Measure, print, write."""
    arguments = _parse()
    # Read by numpy's library in every process that is started from here.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        once_s, found = measure(arguments.counts, arguments.rounds, arguments.processes, Path(name))
    content = {
        "processes": arguments.processes,
        "once_s": once_s,
        "sizes": [asdict(one) for one in found],
        "environment": environment(),
    }
    write_results(arguments.results / "batch_growth", page(once_s, found, arguments.processes), content)


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
