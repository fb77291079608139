"""client encode, decode, truncate, info, models and server-info: what a server can be asked, one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from serving.cli import flags
from serving.cli.connection import Connection, server_failures
from serving.cli.files import STREAM_ENDING, Job, plan_jobs
from serving.cli.local import encoded_facts, single_file, size_facts, stream_facts
from serving.cli.report import Result, run_jobs, tell_facts
from serving.shortfall import expected_shortfall
from tokenizer.errors import TokenizerError
from tokenizer.sequence import TokenSequence

ModelOnServer = Annotated[
    str, typer.Option("--model", metavar="NAME[@VERSION]", help="Which of the server's models.")
]


class RefusedInputError(TokenizerError):
    """The server says that this very input is bad; the next one may be good."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def encode(
    files: flags.Pictures,
    connection: Connection,
    out: flags.Out = None,
    max_tokens: flags.MaxTokens = None,
    max_bytes: flags.MaxBytes = None,
    bits_per_pixel: flags.BitsPerPixel = None,
    min_psnr: flags.MinPsnr = None,
    coverage: flags.Coverage = None,
    coding: flags.CodingOfStream = None,
    canvas_area: flags.CanvasArea = None,
    model: ModelOnServer = "",
    as_json: flags.Json = False,
) -> None:
    """Turn pictures (PNG, JPEG, WebP) into .tsr streams on a server."""
    budget = flags.token_budget(max_tokens, max_bytes, bits_per_pixel, min_psnr, coverage)
    jobs = plan_jobs(files, out, STREAM_ENDING)
    with connection.connect() as client:

        def work(data: bytes) -> Result:
            with refusals():
                sequence = client.encode(data, budget, coding=coding, canvas_area_px=canvas_area, model=model)
            packed = sequence.to_bytes()
            warning = expected_shortfall(sequence, budget)
            return Result(packed, encoded_facts(sequence, len(packed)), warning)

        raise typer.Exit(run_jobs(jobs, work, as_json=as_json))


def decode(
    files: flags.Streams,
    connection: Connection,
    out: flags.Out = None,
    format: flags.Format = None,
    quality: flags.Quality = None,
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Decode only this prefix.")] = None,
    realism: flags.RealismShare = 0.0,
    steps: flags.Steps = flags.DEFAULT_STEP_COUNT,
    seed: flags.Seed = 0,
    model: ModelOnServer = "",
    as_json: flags.Json = False,
) -> None:
    """Turn .tsr streams, or any prefix of them, into pictures on a server."""
    wanted = flags.realism(realism, steps, seed)
    format_name, ending = flags.picture_format(format, single_file(files, out))
    jobs = plan_jobs(files, out, ending)
    with connection.connect() as client:

        def work(data: bytes) -> Result:
            sequence = TokenSequence.from_bytes(data)
            if max_tokens is not None:
                sequence = sequence.prefix(max_tokens)
            with refusals():
                picture = client.decode(
                    sequence,
                    format_name,
                    quality=quality,
                    realism=wanted.strength,
                    steps=wanted.steps,
                    seed=wanted.seed,
                    model=model,
                )
            facts = {"tokens": sequence.length, "bytes": len(picture)}
            return Result(picture, size_facts(sequence.source) | facts)

        raise typer.Exit(run_jobs(jobs, work, as_json=as_json))


def truncate(
    files: flags.Streams,
    connection: Connection,
    out: flags.Out = None,
    max_tokens: flags.MaxTokens = None,
    max_bytes: flags.MaxBytes = None,
    bits_per_pixel: flags.BitsPerPixel = None,
    as_json: flags.Json = False,
) -> None:
    """Cut .tsr streams on a server; `tessera truncate` does the same without one."""
    if flags.token_budget(max_tokens, max_bytes, bits_per_pixel) is None:
        raise typer.BadParameter("give --max-tokens, --max-bytes or --bits-per-pixel")
    if out is None and files != ["-"]:
        raise typer.BadParameter("say where to write with -o", param_hint="--out")
    jobs = plan_jobs(files, out, STREAM_ENDING, in_place=True)
    with connection.connect() as client:

        def work(data: bytes) -> Result:
            with refusals():
                packed = client.truncate(
                    data, max_bytes=max_bytes, max_tokens=max_tokens, bits_per_pixel=bits_per_pixel
                )
            return Result(packed, encoded_facts(TokenSequence.from_bytes(packed), len(packed)))

        raise typer.Exit(run_jobs(jobs, work, as_json=as_json))


def info(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=".tsr files, or -.")],
    connection: Connection,
    as_json: flags.Json = False,
) -> None:
    """Tell what .tsr streams are, and which model of a server can decode them."""
    with connection.connect() as client:
        with server_failures():
            names = {model.fingerprint: f"{model.name}@{model.version}" for model in client.models()}

        def work(data: bytes) -> Result:
            facts = stream_facts(data)
            return Result(None, facts | {"decoded_by": names.get(facts["fingerprint"])})

        raise typer.Exit(run_jobs([Job(file, "") for file in files], work, as_json=as_json))


def models(connection: Connection, as_json: flags.Json = False) -> None:
    """Tell which models a server serves."""
    with connection.connect() as client, server_failures():
        for index, model in enumerate(client.models()):
            if index and not as_json:
                print()
            tell_facts(_plain(model), as_json=as_json)


def server_info(connection: Connection, as_json: flags.Json = False) -> None:
    """Tell the versions and limits of a server."""
    with connection.connect() as client, server_failures():
        facts = _plain(client.server_info())
    limits = facts.pop("limits")
    tell_facts(facts | limits, as_json=as_json)


@contextmanager
def refusals() -> Iterator[None]:
    """Errors of the client as RefusedInputError where the input is at fault, else as ServerError."""
    from serving.client.errors import InvalidRequest, ModelMismatch

    with server_failures():
        try:
            yield
        except (InvalidRequest, ModelMismatch) as error:
            raise RefusedInputError(error.message, error.reason or error.code.name) from error


def _plain(facts: Any) -> dict[str, Any]:
    """A dataclass as facts; tuples become lists, or words for people."""
    return {
        name: [str(one) for one in value] if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(facts).items()
    }
