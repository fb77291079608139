"""serve, client encode and client decode. grpc is imported when they run, so that the rest starts fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli import flags
from serving.cli.files import STREAM_ENDING, plan_jobs
from serving.cli.local import encoded_facts, single_file, size_facts
from serving.cli.report import Result, run_jobs
from tokenizer.errors import TokenizerError
from tokenizer.sequence import TokenSequence

if TYPE_CHECKING:
    from serving.client import TokenizerClient

_LIBRARIES_OF_SERVING = (
    "cryptography",
    "google",
    "grpc",
    "prometheus_client",
    "pydantic",
    "pydantic_settings",
    "structlog",
)


class ServerError(Exception):
    """The server cannot be reached, or the libraries for it are missing: no fault of an input."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class RefusedInputError(TokenizerError):
    """The server says that this very input is bad; the next one may be good."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


Target = Annotated[
    str, typer.Option(envvar="TESSERA_TARGET", metavar="HOST:PORT", help="Where the server is.")
]


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the RPCs; 0 takes a free one.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics; 0 takes a free one.")] = None,
    port_file: Annotated[
        Path | None, typer.Option(help="Write both ports there, as JSON, once ready.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of a shipped model, or a folder.")] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Execution provider: cpu, cuda.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of one model call; 0 counts processors.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run the gRPC server until SIGTERM. Every setting also has a TESSERA_* variable; flags win."""
    given = {
        "host": host,
        "port": port,
        "metrics_port": metrics_port,
        "port_file": port_file,
        "model": model,
        "providers": tuple(provider) if provider else None,
        "num_threads": threads,
        "log_level": log_level,
    }
    raise typer.Exit(_serve({name: value for name, value in given.items() if value is not None}))


def client_encode(
    files: flags.Pictures,
    target: Target = "127.0.0.1:50051",
    out: flags.Out = None,
    max_tokens: flags.MaxTokens = None,
    max_bytes: flags.MaxBytes = None,
    bits_per_pixel: flags.BitsPerPixel = None,
    min_psnr: flags.MinPsnr = None,
    coverage: flags.Coverage = flags.DEFAULT_COVERAGE_SHARE,
    coding: flags.CodingOfStream = None,
    as_json: flags.Json = False,
) -> None:
    """Turn pictures (PNG, JPEG, WebP) into .tsr streams on a server."""
    budget = flags.token_budget(max_tokens, max_bytes, bits_per_pixel, min_psnr, coverage)
    jobs = plan_jobs(files, out, STREAM_ENDING)
    with _connect(target) as client:

        def work(data: bytes) -> Result:
            with _failures_as_ours():
                sequence = client.encode(data, budget, coding=coding)
            packed = sequence.to_bytes()
            return Result(packed, encoded_facts(sequence, len(packed)))

        raise typer.Exit(run_jobs(jobs, work, as_json=as_json))


def client_decode(
    files: flags.Streams,
    target: Target = "127.0.0.1:50051",
    out: flags.Out = None,
    format: flags.Format = None,
    quality: flags.Quality = None,
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Decode only this prefix.")] = None,
    realism: flags.RealismShare = 0.0,
    steps: flags.Steps = flags.DEFAULT_STEP_COUNT,
    seed: flags.Seed = 0,
    as_json: flags.Json = False,
) -> None:
    """Turn .tsr streams, or any prefix of them, into pictures on a server."""
    wanted = flags.realism(realism, steps, seed)
    format_name, ending = flags.picture_format(format, single_file(files, out))
    jobs = plan_jobs(files, out, ending)
    with _connect(target) as client:

        def work(data: bytes) -> Result:
            sequence = TokenSequence.from_bytes(data)
            if max_tokens is not None:
                sequence = sequence.prefix(max_tokens)
            with _failures_as_ours():
                picture = client.decode(
                    sequence,
                    format_name,
                    quality=quality,
                    realism=wanted.strength,
                    steps=wanted.steps,
                    seed=wanted.seed,
                )
            return Result(
                picture, size_facts(sequence.source) | {"tokens": sequence.length, "bytes": len(picture)}
            )

        raise typer.Exit(run_jobs(jobs, work, as_json=as_json))


def _serve(given: dict[str, Any]) -> int:
    """Run the server with these settings on top of TESSERA_*; returns its exit code."""
    try:
        from pydantic import ValidationError

        from serving.config import ServingConfig, describe_invalid
        from serving.server import run
    except ModuleNotFoundError as error:
        _explain_missing(error)
        raise
    try:
        config = ServingConfig(**given)
    except ValidationError as error:
        raise typer.BadParameter(describe_invalid(error)) from error
    return run(config)


def _connect(target: str) -> TokenizerClient:
    try:
        from serving.client import TokenizerClient
    except ModuleNotFoundError as error:
        _explain_missing(error)
        raise
    return TokenizerClient(target)


@contextmanager
def _failures_as_ours() -> Iterator[None]:
    """Errors of the client as RefusedInputError or ServerError."""
    from serving.client_errors import InvalidRequest, ModelMismatch, ServiceError

    try:
        yield
    except (InvalidRequest, ModelMismatch) as error:
        raise RefusedInputError(error.message, error.reason or error.code.name) from error
    except ServiceError as error:
        raise ServerError(error.message, error.reason or error.code.name) from error


def _explain_missing(error: ModuleNotFoundError) -> None:
    """Raise ServerError that says what to install, unless the missing module is a bug of ours."""
    if (error.name or "").split(".")[0] in _LIBRARIES_OF_SERVING:
        raise ServerError(f"{error.name} is missing: install tessera[serve]", "NOT_INSTALLED") from error
