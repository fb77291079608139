"""client many: the pictures of folders over one stream. Knows files and reports, no streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli import flags
from serving.cli.client import ModelOnServer, RefusedInputError
from serving.cli.connection import Connection, server_failures
from serving.cli.files import STREAM_ENDING, Job, plan_folders, read_input
from serving.cli.local import encoded_facts
from serving.cli.report import EXIT_FAILURE, Result, run_each
from serving.shortfall import expected_shortfall
from tokenizer.errors import TokenizerError

if TYPE_CHECKING:
    from serving.client import ServiceError
    from tokenizer.budget import TokenBudget
    from tokenizer.sequence import TokenSequence

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")

Results = Iterator[tuple[Any, "TokenSequence | ServiceError"]]


def many(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Folders with PNG, JPEG and WebP, at any depth.")
    ],
    connection: Connection,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the .tsr files go, as deep.")
    ],
    max_tokens: flags.MaxTokens = None,
    max_bytes: flags.MaxBytes = None,
    bits_per_pixel: flags.BitsPerPixel = None,
    min_psnr: flags.MinPsnr = None,
    coverage: flags.Coverage = None,
    coding: flags.CodingOfStream = None,
    canvas_area: flags.CanvasArea = None,
    model: ModelOnServer = "",
    window: Annotated[
        int | None, typer.Option(min=1, help="Most pictures in work at once; the server has its own limit.")
    ] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out pictures whose .tsr is there.")
    ] = False,
    as_json: flags.Json = False,
) -> None:
    """Turn folders of pictures into .tsr streams on a server, many at once.

    A server that restarts meanwhile is waited for. After a run that was stopped, --skip-existing goes on.
    """
    budget = flags.token_budget(max_tokens, max_bytes, bits_per_pixel, min_psnr, coverage)
    jobs = plan_folders(folders, out, PICTURE_ENDINGS, STREAM_ENDING)
    if skip_existing:
        jobs = [job for job in jobs if not Path(job.target).exists()]
    with connection.connect() as client:

        def encode(sources: Iterable[tuple[Job, bytes]]) -> Results:
            return client.encode_many(
                sources, budget, coding=coding, canvas_area_px=canvas_area, model=model, window=window
            )

        raise typer.Exit(run_bulk(jobs, encode, budget, as_json=as_json))


def run_bulk(
    jobs: Sequence[Job],
    encode: Callable[[Iterable[tuple[Job, bytes]]], Results],
    budget: TokenBudget | None = None,
    *,
    as_json: bool,
) -> int:
    """Read, encode, write and report each job. Returns the exit code.

    A picture that cannot be read, or that the server refuses, does not stop the others, and neither does one
    that the server fails on; the latter makes the exit code that of a failed server.
    """
    unreadable: dict[Job, TokenizerError | OSError] = {}
    encoded: dict[Job, TokenSequence | ServiceError] = {}
    failed: list[Job] = []

    def sources() -> Iterator[tuple[Job, bytes]]:
        for job in jobs:
            try:
                data = read_input(job.source)
            except (TokenizerError, OSError) as error:
                unreadable[job] = error
            else:
                yield job, data

    def await_result(job: Job) -> None:
        """Results come in the order of the jobs, less those that could not be read."""
        for done, result in results:
            encoded[done] = result
            if job in encoded or job in unreadable:
                return

    def work(job: Job) -> Result:
        if job not in encoded and job not in unreadable:
            with server_failures():
                await_result(job)
        if job in unreadable:
            raise unreadable.pop(job)
        return _result(encoded.pop(job), job, budget, failed)

    with server_failures():
        results = encode(sources()) if jobs else iter(())
    code = run_each(jobs, work, as_json=as_json)
    return EXIT_FAILURE if failed else code


def _result(
    outcome: TokenSequence | ServiceError, job: Job, budget: TokenBudget | None, failed: list[Job]
) -> Result:
    from serving.client.errors import InvalidRequest, ModelMismatch, ServiceError

    if not isinstance(outcome, ServiceError):
        packed = outcome.to_bytes()
        return Result(packed, encoded_facts(outcome, len(packed)), expected_shortfall(outcome, budget))
    if not isinstance(outcome, InvalidRequest | ModelMismatch):
        failed.append(job)
    raise RefusedInputError(outcome.message, outcome.reason or outcome.code.name) from outcome
