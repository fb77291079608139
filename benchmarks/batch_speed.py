"""What `tessera batch encode` costs against the loops that a user would write.

    python -m benchmarks.batch_speed --data SHARD.tar... [--odd FOLDER] [--processes N] [--quick]

Prints and writes `benchmarks/results/batch_speed.{md,json}`:

* pictures per second over 10,000 photographs (the shards' pictures again and again, under new keys), fixed
  and range coding, against bare ONNX Runtime with the codec, and against a loop over `ImageTokenizer.encode`
  (benchmarks/batch_loops.py). All read tar shards, decode and resize the pictures, tokenize, write Parquet,
  and have the same number of processes with one thread each; the seconds hold the start of the processes;
* memory of the job and its largest worker while it goes through them;
* seconds for a job of one picture, local and on Ray: what a start costs;
* with `--odd`, one job over a folder with files that are no pictures (benchmarks/batch_odd.py): its exit code
  and its errors by reason against the files that are bad. Ends with 1 if they differ.

`--quick` takes a fiftieth of all counts, to see that it runs. Needs the extras `cpu` and `batch`, and `ray`
for its row; some GB in the folder for temporary files.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.batch_growth import small_pictures
from benchmarks.batch_job import Memory, measure_job
from benchmarks.batch_loops import Loop, run_loops
from benchmarks.batch_odd import OddRun, odd_section, run_odd
from benchmarks.batch_shards import SHARD_PICTURES, write_shards
from benchmarks.command import write_results
from benchmarks.report import RESULTS, environment, environment_line, markdown_table, number, percent
from serving.cpu import available_cpu_count
from tokenizer.coding import Coding

PICTURES = 10_000
LOOPS: tuple[Loop, ...] = ("loop", "bare", "tokens")
QUICK = 50


@dataclass(frozen=True, slots=True)
class Rates:
    """Pictures per second of one coding."""

    coding: str
    job: float
    loop: float
    bare: float
    tokens: float


def photographs(data: Sequence[Path], count: int, folder: Path) -> list[Path]:
    """Tar shards of `count` pictures from the given ones, repeated under new keys."""
    return write_shards(folder, islice(cycle(read_pictures(data)), count))


def read_pictures(data: Sequence[Path]) -> list[tuple[str, bytes]]:
    """(ending, file) of every picture."""
    found = []
    for path in data:
        with tarfile.open(path) as shard:
            for member in shard:
                if (content := shard.extractfile(member)) is not None:
                    found.append((Path(member.name).suffix, content.read()))
    return found


def rates(
    shards: Sequence[Path], count: int, processes: int, folder: Path
) -> tuple[list[Rates], list[Memory]]:
    """Both codings, and the memory of the job with the default one."""
    found, memory = [], []
    for coding in Coding:
        options = ("--workers", processes, "--coding", coding.value, "--shard-size", SHARD_PICTURES)
        job = measure_job(shards, folder / f"job-{coding.value}", *options)
        loop, bare, tokens = (
            count / run_loops(loop, shards, coding, processes, folder / f"{loop}-{coding.value}")
            for loop in LOOPS
        )
        found.append(Rates(coding.value, count / job.seconds, loop, bare, tokens))
        memory = job.memory
        print(found[-1], flush=True)
    return found, memory


def at_counts(memory: Sequence[Memory], counts: Sequence[int]) -> list[Memory]:
    """The samples next to these numbers of finished pictures."""
    return [min(memory, key=lambda one: abs(one.pictures - count)) for count in counts] if memory else []


def starts(folder: Path) -> dict[str, float]:
    """Seconds for a job of one picture with each engine that is installed."""
    shards = small_pictures(1, folder / "one")
    engines = ["local", *(["ray"] if importlib.util.find_spec("ray") else [])]
    return {
        name: measure_job(shards, folder / f"one-{name}", "--engine", name, "--workers", 1).seconds
        for name in engines
    }


def page(content: dict[str, object]) -> str:
    """The figures as a page."""
    found: list[Rates] = content["rates"]  # type: ignore[assignment]
    memory: list[Memory] = content["memory"]  # type: ignore[assignment]
    seconds: dict[str, float] = content["start_seconds"]  # type: ignore[assignment]
    speed = markdown_table(
        ["coding", "job", "loop over `encode`", "bare sessions, codec, quality", "the same without quality",
         "job / loop", "job / bare", "job / without quality"],
        [
            [one.coding, *(number(value, 1) for value in (one.job, one.loop, one.bare, one.tokens)),
             *(percent(one.job / value) for value in (one.loop, one.bare, one.tokens))]
            for one in found
        ],
    )  # fmt: skip
    of_memory = markdown_table(
        ["pictures done", "job, MiB", "largest worker, MiB"],
        [[str(one.pictures), number(one.parent_mib, 0), number(one.worker_mib, 0)] for one in memory],
    )
    odd: OddRun | None = content["odd"]  # type: ignore[assignment]
    odd_files = "" if odd is None else f"{odd_section(odd)}\n\n"
    start = markdown_table(["engine", "seconds"], [[name, number(s, 1)] for name, s in seconds.items()])
    return f"""# Speed of batch jobs

{content["pictures"]} photographs, {content["processes"]} processes with one thread each. Written by
`python -m benchmarks.batch_speed`, which says what is compared. Pictures per second, the start included:

{speed}

Resident memory during the job with the range coding:

{of_memory}

A job of one picture, start to end:

{start}

{odd_files}{environment_line()}
"""


def main() -> None:
    """Measure, print, write."""
    arguments = _parse()
    share = QUICK if arguments.quick else 1
    count = PICTURES // share
    # Read by numpy's library in every process that is started from here.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        seconds = starts(folder)
        found, memory = rates(
            photographs(arguments.data, count, folder / "shards"), count, arguments.processes, folder
        )
        odd = None
        if arguments.odd is not None:
            odd = run_odd(arguments.odd, folder / "odd", "--workers", arguments.processes)
    content: dict[str, object] = {
        "pictures": count,
        "processes": arguments.processes,
        "rates": found,
        "memory": at_counts(memory, [count // 10, count // 2, count]),
        "start_seconds": seconds,
        "odd": odd,
    }
    plain = {
        **content,
        "rates": [asdict(one) for one in found],
        "memory": [asdict(one) for one in content["memory"]],  # type: ignore[attr-defined]
        "odd": None if odd is None else asdict(odd),
        "environment": environment(),
    }
    write_results(arguments.results / "batch_speed", page(content), plain)
    if odd is not None and not odd.is_right:
        raise SystemExit(1)


def _parse() -> argparse.Namespace:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--data", type=Path, nargs="+", required=True, help="tar shards of photographs")
    command.add_argument("--odd", type=Path, help="folder of files of which some are no pictures")
    command.add_argument("--processes", type=int, default=available_cpu_count())
    command.add_argument("--quick", action="store_true", help="a fiftieth of everything")
    command.add_argument("--folder", type=Path, help="for temporary files; else the system's")
    command.add_argument("--results", type=Path, default=RESULTS)
    return command.parse_args()


if __name__ == "__main__":
    main()
