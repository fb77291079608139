"""What the user sees of a run over many inputs, and its exit code. Knows no models, reads no files.

stdout   one line or JSON object per input, unless it carries data
stderr   `error: file: message [REASON]`, `warning: file: message` (in JSON a fact); the progress bar
         (terminals only); JSON if stdout carries data
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serving.cli.files import STREAM, Job, read_input, write_output
from tokenizer.errors import (
    ArtifactError,
    CodingUnsupported,
    ProviderError,
    RealismUnavailable,
    TokenizerError,
)

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_BAD_INPUT = 3

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one input: the bytes to write (None: nothing to write) and facts to tell."""

    data: bytes | None
    facts: Facts
    warning: str | None = None
    """What the user asked for and did not get, though the output is good."""


class OutputError(Exception):
    """An output cannot be written: no fault of an input, so the run ends."""


def run_jobs(jobs: Sequence[Job], work: Callable[[bytes], Result], *, as_json: bool) -> int:
    """Read, work, write and report each job; a bad input never stops the others. Returns the exit code.

    Raises what `run_each` raises.
    """
    return run_each(jobs, lambda job: work(read_input(job.source)), as_json=as_json)


def run_each(jobs: Sequence[Job], work: Callable[[Job], Result], *, as_json: bool) -> int:
    """`run_jobs` for work that brings its own input.

    Raises OutputError, ArtifactError, ProviderError and RealismUnavailable, which would fail for every
    other input too, and BrokenPipeError where nobody reads stdout any more.
    """
    carries_data = any(job.target == STREAM for job in jobs)
    bad_inputs = 0
    with _progress(len(jobs)) as progress:
        bar = progress.add_task("", total=len(jobs))
        for job in jobs:
            try:
                facts, warning = _run_job(job, work)
            except (ArtifactError, BrokenPipeError, CodingUnsupported, ProviderError, RealismUnavailable):
                raise
            except (TokenizerError, OSError) as error:
                bad_inputs += 1
                _tell_bad_input(job.source, error, as_json=as_json, carries_data=carries_data)
            else:
                if warning is not None:
                    facts |= _warn(job.source, warning, as_json=as_json)
                _tell(facts, as_json=as_json, carries_data=carries_data)
            progress.advance(bar)
    return EXIT_BAD_INPUT if bad_inputs else EXIT_OK


def tell_facts(facts: Facts, *, as_json: bool) -> None:
    """Facts of one thing on stdout: a JSON object, or a line for each."""
    if as_json:
        print(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<{width}}  {value}")


def tell_error(error: Exception, name: str | None = None) -> None:
    """One line on stderr, never a traceback."""
    print(
        "error: " + ": ".join(filter(None, (name, _message(error)))) + f" [{reason_of(error)}]",
        file=sys.stderr,
    )


def reason_of(error: Exception) -> str:
    """The machine-readable word for an error."""
    if isinstance(error, FileNotFoundError):
        return "FILE_NOT_FOUND"
    if isinstance(error, OSError):
        return "FILE_UNREADABLE"
    if isinstance(error, OutputError):
        return "OUTPUT_UNWRITABLE"
    return str(getattr(error, "reason", None) or "INTERNAL")


def _run_job(job: Job, work: Callable[[Job], Result]) -> tuple[dict[str, Any], str | None]:
    """Facts and warning."""
    started_s = perf_counter()
    result = work(job)
    milliseconds = round(1e3 * (perf_counter() - started_s), 1)
    facts: dict[str, Any] = {"file": job.source}
    if result.data is not None:
        try:
            write_output(job.target, result.data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{job.target}: {_message(error)}") from error
        facts["output"] = job.target
    return facts | dict(result.facts) | {"milliseconds": milliseconds}, result.warning


def _warn(name: str, warning: str, *, as_json: bool) -> Facts:
    """One line on stderr, or a fact."""
    if as_json:
        return {"warning": warning}
    print(f"warning: {name}: {warning}", file=sys.stderr)
    return {}


def _tell(facts: Facts, *, as_json: bool, carries_data: bool) -> None:
    if as_json:
        print(json.dumps(facts), file=sys.stderr if carries_data else sys.stdout, flush=True)
    elif not carries_data:
        print(describe(facts), flush=True)


def _tell_bad_input(name: str, error: Exception, *, as_json: bool, carries_data: bool) -> None:
    if as_json:
        facts = {"file": name, "error": _message(error), "reason": reason_of(error)}
        _tell(facts, as_json=True, carries_data=carries_data)
    else:
        tell_error(error, name)


def describe(facts: Facts) -> str:
    """One line for people.

    >>> describe({"file": "a.png", "output": "a.tsr", "bytes": 64, "tokens": 54, "width": 8, "height": 6})
    'a.png -> a.tsr  8x6  64 bytes  54 tokens'
    """
    parts = [" -> ".join(str(facts[key]) for key in ("file", "output") if key in facts)]
    if "width" in facts:
        parts.append(f"{facts['width']}x{facts['height']}")
    for unit in ("bytes", "tokens"):
        if unit in facts:
            parts.append(f"{facts[unit]} {unit}")
    if facts.get("predicted_psnr_db") is not None:
        parts.append(f"about {facts['predicted_psnr_db']:.1f} dB")
    if "canvas_width" in facts:  # what `info` is asked for; too much for a line about each output
        parts.append(f"canvas {facts['canvas_width']}x{facts['canvas_height']}")
        parts.append(f"{facts['coding']} coding  model {facts['fingerprint']}")
    return "  ".join(parts)


def _message(error: Exception) -> str:
    """The error's text on one line; of an OSError only its meaning, since the name stands before it."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _progress(total: int) -> Progress:
    """A bar on stderr, only where somebody watches and there is something to wait for."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("tessera"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=total < 2 or not sys.stderr.isatty(),
        # Lines on a terminal go above the bar; lines into a file or pipe must stay on stdout.
        redirect_stdout=sys.stdout.isatty(),
    )
