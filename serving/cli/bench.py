"""bench: put load on a server and say how it did. grpc is imported when it runs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.connection import Server, explain_missing, server_failures
from serving.cli.report import EXIT_FAILURE, EXIT_OK, OutputError
from serving.load.pictures import LoadPicture, from_folder, generated, parse_formats, parse_sizes
from serving.load.plan import ITEMS_PER_STREAM, Arrivals, InvalidLoad, LoadPlan, RpcKind, parse_mix

if TYPE_CHECKING:
    from serving.client_credentials import Caller
    from serving.load.summary import LoadReport

STDOUT = "-"
# What shells report for a command that ended by Ctrl-C.
EXIT_INTERRUPTED = 130


def bench(
    server: Server,
    clients: Annotated[
        int | None, typer.Option(help="Closed loop: so many clients, each sends again once it is answered.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Open loop: so many calls per second, answered or not.")
    ] = None,
    arrivals: Annotated[
        Arrivals,
        typer.Option(help="Of the open loop: poisson (independent callers) or constant (equal gaps)."),
    ] = Arrivals.POISSON,
    duration: Annotated[float, typer.Option(help="Seconds that are measured.")] = 30.0,
    warm_up: Annotated[float, typer.Option(help="Seconds before that, not in the report.")] = 2.0,
    mix: Annotated[
        str,
        typer.Option(
            help=f"Calls and weights, as encode=3,decode=1: {', '.join(kind.value for kind in RpcKind)}. "
            f"A call of encode_many or decode_many is a stream of {ITEMS_PER_STREAM} items, of which each is "
            "measured and counted as a call."
        ),
    ] = "encode",
    slo_ms: Annotated[
        float | None, typer.Option(help="Report goodput: calls that were answered within this time.")
    ] = None,
    deadline_ms: Annotated[
        float, typer.Option(help="Deadline of each call, or item of a stream.")
    ] = 10_000.0,
    images: Annotated[
        Path | None, typer.Option(help="Folder of pictures to send; else they are generated.")
    ] = None,
    sizes: Annotated[str, typer.Option(help="Of generated pictures.")] = "256x256,640x480,1024x768",
    formats: Annotated[str, typer.Option(help="Of generated pictures: jpeg, png, webp, tensor.")] = "jpeg",
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="Budget of each encode, and length of what is decoded.")
    ] = None,
    retries: Annotated[
        bool, typer.Option(help="Repeat refused calls, as TokenizerClient does; else every refusal is seen.")
    ] = False,
    connections: Annotated[int, typer.Option(help="Connections that the calls share.")] = 4,
    processes: Annotated[int, typer.Option(help="Processes that send.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals, mix and pictures.")] = 0,
    json_path: Annotated[
        str | None,
        typer.Option("--json", metavar="PATH", help="Write all figures there; - is stdout."),
    ] = None,
) -> None:
    """Put load on a server; print status counts, latency percentiles, throughput and goodput.

    Ctrl-C ends the run early and reports what is known.
    """
    with _nonsense_as_usage_errors():
        plan = LoadPlan(
            target=server.target,
            clients=clients,
            rate_per_s=rate,
            arrivals=arrivals,
            duration_s=duration,
            warm_up_s=warm_up,
            mix=parse_mix(mix),
            deadline_s=deadline_ms / 1000,
            slo_s=None if slo_ms is None else slo_ms / 1000,
            connections=connections,
            retries=retries,
            seed=seed,
        )
        if images is not None:
            pictures = from_folder(images)
        else:
            pictures = generated(parse_sizes(sizes), parse_formats(formats), seed)
        report = _run(plan, pictures, max_bytes, processes, server.caller())
    _write(report, json_path)
    if report.was_stopped:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(EXIT_OK if report.ok else EXIT_FAILURE)


def _run(
    plan: LoadPlan, pictures: list[LoadPicture], max_bytes: int | None, processes: int, caller: Caller
) -> LoadReport:
    try:
        from rich.console import Console

        from serving.load.prepare import prepare
        from serving.load.processes import run
        from serving.load.summary import summarize
    except ModuleNotFoundError as error:
        explain_missing(error)
        raise
    console = Console(stderr=True)
    with server_failures():
        requests = asyncio.run(prepare(plan, pictures, max_size_bytes=max_bytes, caller=caller))
    with console.status(f"load on {plan.target} for {plan.end_s:g} s; Ctrl-C ends it early"):
        outcomes = run(plan, requests, processes, caller)
    return summarize(plan, outcomes)


def _write(report: LoadReport, json_path: str | None) -> None:
    from rich.console import Console

    from serving.load.table import print_report

    print_report(report, Console(stderr=json_path == STDOUT))
    if json_path is None:
        return
    text = json.dumps(report.as_dict(), indent=1) + "\n"
    if json_path == STDOUT:
        sys.stdout.write(text)
        return
    try:
        Path(json_path).write_text(text)
    except OSError as error:
        raise OutputError(f"{json_path}: {error.strerror}") from error


@contextmanager
def _nonsense_as_usage_errors() -> Iterator[None]:
    try:
        yield
    except InvalidLoad as error:
        raise typer.BadParameter(str(error)) from error
