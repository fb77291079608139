"""What `batch encode` and `batch decode` are asked alike: where, by whom, how bad it may get, who is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.report import EXIT_BAD_INPUT, EXIT_OK, OutputError, tell_facts
from serving.cpu import available_cpu_count

if TYPE_CHECKING:
    from serving.batch.engines import Engine
    from serving.batch.reports import Totals

_HOW = "How it runs"
_METRICS = "Metrics"

Folder = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the job; the same command goes on where it stopped.")
]
EngineName = Annotated[
    str, typer.Option("--engine", help="local (processes) or ray (actors).", rich_help_panel=_HOW)
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes, or most actors; else as many as processors.",
        rich_help_panel=_HOW,
    ),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of each.", rich_help_panel=_HOW)]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="auto, HOST:PORT or ray://...; else a Ray of this job's own.",
        rich_help_panel=_HOW,
    ),
]
MinWorkers = Annotated[
    int,
    typer.Option("--min-workers", min=1, help="Ray: fewest actors, up to --workers.", rich_help_panel=_HOW),
]
NumGpus = Annotated[
    float, typer.Option("--num-gpus", min=0, help="Ray: GPUs of each actor.", rich_help_panel=_HOW)
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="End at the first bad input.", rich_help_panel=_HOW)
]
MaxErrorRate = Annotated[
    float,
    typer.Option(
        "--max-error-rate", min=0, max=1, help="End when a larger share is bad.", rich_help_panel=_HOW
    ),
]
MetricsPort = Annotated[
    int | None, typer.Option("--metrics-port", help="Serve /metrics on this port.", rich_help_panel=_METRICS)
]
MetricsTextfile = Annotated[
    Path | None,
    typer.Option("--metrics-textfile", help="Write metrics to this file.", rich_help_panel=_METRICS),
]
Pushgateway = Annotated[
    str | None,
    typer.Option("--pushgateway", metavar="HOST:PORT", help="Push metrics there.", rich_help_panel=_METRICS),
]

Json = Annotated[bool, typer.Option("--json", help="Tell what became of the job as JSON, on stdout.")]


def one_of(flag: str, value: str, allowed: tuple[str, ...]) -> str:
    """The value. Raises typer.BadParameter if it is none of these."""
    if value not in allowed:
        raise typer.BadParameter(f"must be one of {', '.join(allowed)}, got {value!r}", param_hint=flag)
    return value


def open_engine(
    name: str, workers: int | None, min_workers: int, address: str | None, num_gpus: float
) -> Engine:
    """The engine that the flags name. Raises typer.BadParameter."""
    most = workers or available_cpu_count()
    if one_of("--engine", name, ("local", "ray")) == "local":
        if address is not None or num_gpus or min_workers != 1:
            raise typer.BadParameter("--ray-address, --min-workers and --num-gpus need --engine ray")
        from serving.batch.engines import LocalEngine

        return LocalEngine(most)
    if workers is not None and min_workers > workers:
        raise typer.BadParameter(f"--min-workers {min_workers} is above --workers {workers}")
    from serving.batch.ray_engine import RayEngine

    return RayEngine(address, min_workers, max(most, min_workers), num_gpus)


def lines_on_stdin(what: str) -> tuple[str, ...]:
    """One name a line. Raises typer.BadParameter if there is none."""
    names = tuple(line.rstrip("\n") for line in sys.stdin if line.strip())
    if not names:
        raise typer.BadParameter(f"- reads {what} on stdin, one a line, and there are none")
    return names


@contextmanager
def failures_as_one_line() -> Iterator[None]:
    """A disk that is full or a folder that nobody may write to is no bug of ours."""
    try:
        yield
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise OutputError(f"{place}{error.strerror or error}") from error


def end(out: Path, totals: Totals, *, as_json: bool) -> typer.Exit:
    """Tells what became of the job; what to raise for its exit code."""
    if as_json:
        tell_facts(totals.as_json(), as_json=True)
    else:
        each = totals.size_bytes / max(1, totals.pictures)
        skipped = f", {totals.skipped} were bad before" if totals.skipped else ""
        bad = f"{totals.errors} bad (see {out / 'errors.jsonl'})" if totals.errors else "none bad"
        print(f"{totals.pictures} pictures, {each:.1f} bytes each, {bad}{skipped}; see {out / 'report.json'}")
    return typer.Exit(EXIT_BAD_INPUT if totals.errors else EXIT_OK)
