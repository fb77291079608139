"""batch decode: what `batch encode` wrote to pictures. What only jobs need is imported when one runs."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from serving.batch.decode_options import PICTURE_SINKS, DecodeOptions, PictureSinkName
from serving.batch.options import DEFAULT_UNIT_SIZE
from serving.cli import batch_flags, flags

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Folders of jobs, .parquet and .tar shards, .tsr files, folders of those, patterns, URLs.",
    ),
]


def batch_decode(
    sources: Sources,
    out: batch_flags.Folder,
    sink: Annotated[
        str, typer.Option("--to", help="What is written: folder (of picture files) or webdataset.")
    ] = "folder",
    format: Annotated[str, typer.Option(help="png, jpeg or webp.")] = "png",
    quality: flags.Quality = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=0, help="Decode only this prefix of each stream.")
    ] = None,
    realism: flags.RealismShare = 0.0,
    steps: flags.Steps = flags.DEFAULT_STEP_COUNT,
    seed: flags.Seed = 0,
    shard_size: Annotated[
        int, typer.Option(min=1, help="Streams of one unit of work, for folders of .tsr files.")
    ] = DEFAULT_UNIT_SIZE,
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
    """Rebuild the pictures of a data set from its tokens: resumable, on all processors or on a Ray cluster.

    A damaged stream, or one of another model, becomes a line in errors.jsonl, and exit code 3. Pictures that
    were bad when they were encoded are skipped and counted.
    """
    wanted = flags.realism(realism, steps, seed)
    format_name, _ = flags.picture_format(format, None)
    if quality is not None and format_name == "png":
        raise typer.BadParameter("png is lossless: --quality is for jpeg and webp", param_hint="--quality")
    options = DecodeOptions(
        sources=tuple(sources),
        sink=cast(PictureSinkName, batch_flags.one_of("--to", sink, PICTURE_SINKS)),
        model=model,
        format=format_name,
        quality=quality,
        max_tokens=max_tokens,
        realism=wanted.strength,
        steps=wanted.steps,
        seed=wanted.seed,
        unit_size=shard_size,
    )
    chosen = batch_flags.open_engine(engine, workers, min_workers, ray_address, num_gpus)
    from serving.batch.decode_job import decode_data_set
    from serving.batch.job import Tolerance
    from serving.batch.watch import Metering

    with batch_flags.failures_as_one_line():
        totals = decode_data_set(
            out,
            options,
            chosen,
            threads=threads,
            providers=tuple(provider),
            tolerance=Tolerance(fail_fast, max_error_rate),
            metering=Metering(metrics_port, metrics_textfile, pushgateway),
        )
    raise batch_flags.end(out, totals, as_json=as_json)
