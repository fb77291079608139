"""batch encode: a data set to tokens. What it imports beyond the library comes when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from serving.batch.options import DEFAULT_UNIT_SIZE, SINKS, EncodeOptions, SinkName, TokenColumn
from serving.cli import flags
from serving.cli.report import EXIT_BAD_INPUT, EXIT_OK, tell_facts
from serving.cpu import available_cpu_count

if TYPE_CHECKING:
    from serving.batch.engines import Engine
    from serving.batch.reports import Totals

_HOW = "How it runs"
_METRICS = "Metrics"

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Folders, WebDataset .tar, .parquet, patterns, fsspec URLs, or - for paths on stdin.",
    ),
]
Folder = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the job; the same command goes on where it stopped.")
]


def batch_encode(
    sources: Sources,
    out: Folder,
    sink: Annotated[str, typer.Option("--to", help=f"What is written: {', '.join(SINKS)}.")] = "parquet",
    max_tokens: flags.MaxTokens = None,
    max_bytes: flags.MaxBytes = None,
    bits_per_pixel: flags.BitsPerPixel = None,
    min_psnr: flags.MinPsnr = None,
    coverage: flags.Coverage = flags.DEFAULT_COVERAGE_SHARE,
    mode: flags.QualityMode = "fast",
    total_bytes: flags.TotalBytes = None,
    goal: flags.GoalOfSet = "mse",
    min_bytes_each: flags.MinBytesEach = 0,
    max_bytes_each: flags.MaxBytesEach = None,
    coding: flags.CodingOfStream = None,
    canvas_area: flags.CanvasArea = None,
    image_column: Annotated[str, typer.Option(help="Column of pictures in .parquet sources.")] = "image",
    token_column: Annotated[
        str, typer.Option(help="Type of token_ids in Parquet: list (of uint8) or binary.")
    ] = "list",
    shard_size: Annotated[int, typer.Option(min=1, help="Pictures of one output shard.")] = DEFAULT_UNIT_SIZE,
    model: flags.Model = "default",
    provider: flags.Provider = ["cpu"],  # noqa: B006 (typer never changes it)
    engine: Annotated[str, typer.Option(help="local (processes) or ray.", rich_help_panel=_HOW)] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes or actors; else the processors.", rich_help_panel=_HOW),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each.", rich_help_panel=_HOW)] = 1,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="auto, HOST:PORT or ray://...; else a Ray of this job's own.", rich_help_panel=_HOW
        ),
    ] = None,
    min_workers: Annotated[
        int, typer.Option(min=1, help="Ray: fewest actors, up to --workers.", rich_help_panel=_HOW)
    ] = 1,
    num_gpus: Annotated[
        float, typer.Option(min=0, help="Ray: GPUs of each actor.", rich_help_panel=_HOW)
    ] = 0.0,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End at the first bad picture.", rich_help_panel=_HOW)
    ] = False,
    max_error_rate: Annotated[
        float,
        typer.Option(min=0, max=1, help="End when a larger share is bad.", rich_help_panel=_HOW),
    ] = 1.0,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve /metrics on this port.", rich_help_panel=_METRICS)
    ] = None,
    metrics_textfile: Annotated[
        Path | None, typer.Option(help="Write metrics to this file.", rich_help_panel=_METRICS)
    ] = None,
    pushgateway: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Push metrics there.", rich_help_panel=_METRICS),
    ] = None,
    as_json: flags.Json = False,
) -> None:
    """Turn a data set into token sequences: resumable, on all processors or on a Ray cluster.

    A bad picture becomes a row with its error, a line in errors.jsonl, and exit code 3.
    """
    budget = flags.token_budget(max_tokens, max_bytes, bits_per_pixel, min_psnr, coverage, mode)
    shared = flags.set_budget(total_bytes, goal, min_bytes_each, max_bytes_each, budget)
    options = EncodeOptions(
        sources=tuple(sources),
        sink=cast(SinkName, one_of("--to", sink, SINKS)),
        model=model,
        coding=coding,
        canvas_area_px=canvas_area,
        max_tokens=max_tokens,
        max_bytes=max_bytes,
        bits_per_pixel=bits_per_pixel,
        min_psnr_db=min_psnr,
        coverage=coverage,
        mode="fast" if budget is None else budget.mode,
        set_budget=shared,
        image_column=image_column,
        token_column=cast(TokenColumn, one_of("--token-column", token_column, ("list", "binary"))),
        unit_size=shard_size,
    )
    chosen = one_of("--engine", engine, ("local", "ray"))
    if chosen == "local" and (ray_address is not None or num_gpus or min_workers != 1):
        raise typer.BadParameter("--ray-address, --min-workers and --num-gpus need --engine ray")
    from serving.batch.encode_job import Metering, encode_data_set
    from serving.batch.job import Tolerance

    totals = encode_data_set(
        out,
        options,
        _engine(chosen, workers or available_cpu_count(), min_workers, ray_address, num_gpus),
        threads=threads,
        providers=tuple(provider),
        stdin=_paths_on_stdin() if "-" in sources else (),
        tolerance=Tolerance(fail_fast, max_error_rate),
        metering=Metering(metrics_port, metrics_textfile, pushgateway),
    )
    _tell(out, totals, as_json=as_json)
    raise typer.Exit(EXIT_BAD_INPUT if totals.errors else EXIT_OK)


def one_of(flag: str, value: str, allowed: tuple[str, ...]) -> str:
    """The value. Raises typer.BadParameter if it is none of these."""
    if value not in allowed:
        raise typer.BadParameter(f"must be one of {', '.join(allowed)}, got {value!r}", param_hint=flag)
    return value


def _engine(name: str, workers: int, min_workers: int, address: str | None, num_gpus: float) -> Engine:
    if name == "local":
        from serving.batch.engines import LocalEngine

        return LocalEngine(workers)
    from serving.batch.ray_engine import RayEngine

    return RayEngine(address, min(min_workers, workers), workers, num_gpus)


def _paths_on_stdin() -> tuple[str, ...]:
    paths = tuple(line.rstrip("\n") for line in sys.stdin if line.strip())
    if not paths:
        raise typer.BadParameter("- reads paths on stdin, one a line, and there are none")
    return paths


def _tell(out: Path, totals: Totals, *, as_json: bool) -> None:
    if as_json:
        tell_facts(totals.as_json(), as_json=True)
        return
    each = max(1, totals.pictures)
    print(
        f"{totals.pictures} pictures, {totals.size_bytes / each:.1f} bytes each, {totals.errors} bad; "
        f"see {out / 'report.json'}"
    )
