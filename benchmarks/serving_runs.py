"""What the benchmarks of the service share: arguments, processors, servers, loads, figures as text."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.command import write_results
from benchmarks.report import RESULTS, environment, environment_line
from benchmarks.server_process import ServerProcess, on_core, running_fake_server, running_server
from serving.load.pictures import LoadPicture, generated
from serving.load.plan import LoadPlan
from serving.load.prepare import prepare
from serving.load.processes import LoadRun, run
from serving.load.summary import LoadReport, summarize
from tokenizer.canvas import Size

SIZE = Size(256, 256)
# The fake tokenizer takes its time over all but the pictures of the warm-up, which are 256x256.
FAKE_SIZE = Size(192, 128)
FAKE_SECONDS_PER_PICTURE = 0.02
APART, TOGETHER = "apart", "together"


def parser(description: str | None, *, runs: int, seconds: float) -> argparse.ArgumentParser:
    """Arguments of every benchmark of the service; `seconds` is the length of one load."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--model", default="default", help="name or folder of the artifact")
    arguments.add_argument("--runs", type=int, default=runs)
    arguments.add_argument("--seconds", type=float, default=seconds, help="length of each load")
    arguments.add_argument(
        "--quick", action="store_true", help="one short run, to see that all works; its figures mean nothing"
    )
    arguments.add_argument(
        "--fake",
        action="store_true",
        help=f"a tokenizer that sleeps {1000 * FAKE_SECONDS_PER_PICTURE:.0f} ms per picture, so that only "
        "the service is measured",
    )
    arguments.add_argument("--results", type=Path, default=RESULTS)
    return arguments


def parsed(arguments: argparse.ArgumentParser, *, quick_seconds: float = 3.0) -> argparse.Namespace:
    """The command line, made short by `--quick`."""
    found = arguments.parse_args()
    if found.quick:
        found.runs, found.seconds = 1, min(found.seconds, quick_seconds)
    return found


def cores() -> tuple[int | None, int | None]:
    """Processors of the client and of the server; None where there is only one."""
    mine = sorted(os.sched_getaffinity(0))
    return (mine[0], mine[-1]) if len(mine) > 1 else (None, None)


def places() -> tuple[str, ...]:
    """Server and clients on a processor each, and all on all processors, where there are several."""
    return (APART, TOGETHER) if len(os.sched_getaffinity(0)) > 1 else (TOGETHER,)


def cores_at(place: str) -> tuple[int | None, int | None]:
    """Processors of the client and of the server at one of these places; None for all."""
    return cores() if place == APART else (None, None)


@contextmanager
def server_of(
    arguments: argparse.Namespace, *, core: int | None = None, settings: Mapping[str, object] | None = None
) -> Iterator[ServerProcess]:
    """The server that a command line asks for: the real one, or the one that sleeps."""
    wanted = dict(settings or {})
    if arguments.fake:
        # It sleeps once per call: larger batches would make it faster.
        wanted = {"max_batch_size": 1} | wanted
        with running_fake_server(FAKE_SECONDS_PER_PICTURE, core=core, settings=wanted) as server:
            yield server
    else:
        with running_server(arguments.model, core=core, settings=wanted) as server:
            yield server


def pictures(arguments: argparse.Namespace) -> list[LoadPicture]:
    """Eight different JPEGs."""
    size = FAKE_SIZE if arguments.fake else SIZE
    return [picture for seed in range(8) for picture in generated([size], seed=seed)]


def load(
    plan: LoadPlan, sent: Sequence[LoadPicture], *, core: int | None = None
) -> tuple[LoadReport, LoadRun]:
    """Run a load from this process, on one processor. Raises KeyboardInterrupt if it is stopped."""
    with on_core(core):
        done = run(plan, asyncio.run(prepare(plan, sent)))
    if done.was_stopped:
        raise KeyboardInterrupt
    return summarize(plan, done), done


def capacity_per_s(
    server: ServerProcess, sent: Sequence[LoadPicture], seconds: float, core: int | None
) -> float:
    """Encodes per second of enough clients to fill every batch, and no queue."""
    plan = LoadPlan(server.target, clients=8, duration_s=seconds, warm_up_s=1.0, deadline_s=60.0)
    return load(plan, sent, core=core)[0].throughput_per_s


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and least to most where there are several.

    >>> spread([3.0, 1.0, 2.0], 0), spread([5.0], 1)
    ('2 (1 … 3)', '5.0')
    """
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} … {max(values):.{digits}f})"


def verdict(met: bool) -> str:
    """For the column of targets."""
    return "met" if met else "**missed**"


def write(
    arguments: argparse.Namespace,
    name: str,
    title: str,
    sections: Sequence[str],
    content: Mapping[str, Any],
) -> None:
    """The page and the JSON file, with the command and the machine."""
    command = f"python -m benchmarks.{name} {shlex.join(sys.argv[1:])}".strip()
    kind = (
        f"a tokenizer that sleeps {1000 * FAKE_SECONDS_PER_PICTURE:.0f} ms per picture"
        if arguments.fake
        else f"model `{arguments.model}`"
    )
    processors, load_average = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    head = (
        f"# {title}\n\nWritten by `{command}`, {kind}, on {processors} processors with a load average of "
        f"{load_average:.1f} at the end"
    ) + (". **A quick run: these figures only show that the benchmark works.**" if arguments.quick else ".")
    facts = {
        "command": command,
        "processors": processors,
        "load_average_at_the_end": load_average,
        "environment": environment(),
    }
    text = "\n\n".join([head, *sections, environment_line() + "\n"])
    write_results(arguments.results / name, text, facts | dict(content))
