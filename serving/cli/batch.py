"""batch encode: a data set to tokens. What it imports beyond the library comes when it runs."""

from __future__ import annotations

import sys
from typing import Annotated, cast

import typer

from serving.batch.options import (
    DEFAULT_UNIT_SIZE,
    SINKS,
    TOKEN_COLUMNS,
    EncodeOptions,
    SinkName,
    TokenColumn,
)
from serving.cli import batch_flags, flags
from tokenizer.budget import DEFAULT_COVERAGE

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Folders, WebDataset .tar, .parquet, patterns, fsspec URLs, or - for paths on stdin.",
    ),
]


def batch_encode(
    sources: Sources,
    out: batch_flags.Folder,
    sink: Annotated[str, typer.Option("--to", help=f"What is written: {', '.join(SINKS)}.")] = "parquet",
    max_tokens: flags.MaxTokens = None,
    max_bytes: flags.MaxBytes = None,
    bits_per_pixel: flags.BitsPerPixel = None,
    min_psnr: flags.MinPsnr = None,
    coverage: flags.Coverage = None,
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
    engine: batch_flags.EngineName = "local",
    workers: batch_flags.Workers = None,
    threads: batch_flags.Threads = 1,
    ray_address: batch_flags.RayAddress = None,
    min_workers: batch_flags.MinWorkers = 1,
    num_gpus: batch_flags.NumGpus = 0.0,
    fail_fast: batch_flags.FailFast = False,
    max_error_rate: batch_flags.MaxErrorRate = 1.0,
    metrics_port: batch_flags.MetricsPort = None,
    metrics_textfile: batch_flags.MetricsTextfile = None,
    pushgateway: batch_flags.Pushgateway = None,
    as_json: batch_flags.Json = False,
) -> None:
    """Turn a data set into token sequences: resumable, on all processors or on a Ray cluster.

    A bad picture becomes a row with its error, a line in errors.jsonl, and exit code 3.
    """
    budget = flags.token_budget(max_tokens, max_bytes, bits_per_pixel, min_psnr, coverage, mode)
    shared = flags.set_budget(total_bytes, goal, min_bytes_each, max_bytes_each, budget)
    options = EncodeOptions(
        sources=tuple(sources),
        sink=cast(SinkName, batch_flags.one_of("--to", sink, SINKS)),
        model=model,
        coding=coding,
        canvas_area_px=canvas_area,
        max_tokens=max_tokens,
        max_bytes=max_bytes,
        bits_per_pixel=bits_per_pixel,
        min_psnr_db=min_psnr,
        coverage=DEFAULT_COVERAGE if budget is None else budget.coverage,
        mode="fast" if budget is None else budget.mode,
        set_budget=shared,
        image_column=image_column,
        token_column=cast(TokenColumn, batch_flags.one_of("--token-column", token_column, TOKEN_COLUMNS)),
        unit_size=shard_size,
    )
    chosen = batch_flags.open_engine(engine, workers, min_workers, ray_address, num_gpus)
    from serving.batch.encode_job import encode_data_set
    from serving.batch.job import Tolerance
    from serving.batch.watch import Metering

    with batch_flags.failures_as_one_line():
        totals = encode_data_set(
            out,
            options,
            chosen,
            threads=threads,
            providers=tuple(provider),
            stdin=batch_flags.lines_on_stdin("paths") if "-" in sources else (),
            tolerance=Tolerance(fail_fast, max_error_rate),
            metering=Metering(metrics_port, metrics_textfile, pushgateway),
        )
    if totals.short:
        _warn_of_shortfall(totals.short, totals.pictures, options)
    raise batch_flags.end(out, totals, as_json=as_json)


def _warn_of_shortfall(short: int, pictures: int, options: EncodeOptions) -> None:
    """One line, however many there are."""
    asked = f"{options.min_psnr_db:g} dB"
    if options.mode == "fast":
        what = f"are not expected to reach {asked} at coverage {options.coverage:g}"
    else:
        what = f"do not reach {asked}"
    print(f"warning: {short} of {pictures} pictures {what}: all their tokens are kept", file=sys.stderr)
