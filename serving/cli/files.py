"""What a command reads and where it writes: plans for many files, `-`, atomic files. Knows no models."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from tokenizer.errors import ImageTooLarge

STREAM = "-"
"""Name of stdin as an input and of stdout as an output."""

STREAM_ENDING = ".tsr"
# More than any picture that ImageLimits accepts; so that an endless pipe does not fill the memory.
_MAX_INPUT_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class Job:
    """One input and the output that it becomes; `-` is stdin and stdout."""

    source: str
    target: str


def plan_jobs(sources: Sequence[str], out: str | None, ending: str, *, in_place: bool = False) -> list[Job]:
    """Where each input goes; without `out`, beside it with `ending`. Raises typer.BadParameter.

    >>> plan_jobs(["a/x.jpg"], None, ".tsr")
    [Job(source='a/x.jpg', target='a/x.tsr')]
    """
    if list(sources).count(STREAM) > 1:
        raise typer.BadParameter("stdin (-) can be read only once")
    jobs = [Job(source, _target(source, out, ending, many=len(sources) > 1)) for source in sources]
    _refuse_collisions(jobs, in_place)
    if any(job.target == STREAM for job in jobs) and sys.stdout.isatty():
        raise typer.BadParameter("not writing binary data to a terminal; use -o FILE", param_hint="--out")
    return jobs


def plan_folders(folders: Sequence[Path], out: Path, endings: Sequence[str], ending: str) -> list[Job]:
    """Each file with one of the endings, at any depth, to the same place below `out`, with `ending`.

    In the order of the names. Raises typer.BadParameter.
    """
    jobs: list[Job] = []
    for folder in folders:
        if not folder.is_dir():
            raise typer.BadParameter(f"{folder} is not a folder")
        found = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in endings and not path.is_dir()
        )
        jobs += [Job(str(path), str(_with_ending(out / path.relative_to(folder), ending))) for path in found]
    _refuse_collisions(jobs, in_place=False)
    return jobs


def read_input(source: str) -> bytes:
    """All bytes of a file or of stdin. Raises OSError, and ImageTooLarge past 256 MiB."""
    if source == STREAM:
        data = sys.stdin.buffer.read(_MAX_INPUT_BYTES + 1)
    else:
        with open(source, "rb") as file:
            data = file.read(_MAX_INPUT_BYTES + 1)
    if len(data) > _MAX_INPUT_BYTES:
        raise ImageTooLarge(f"an input may have {_MAX_INPUT_BYTES} bytes")
    return data


def write_output(target: str, data: bytes) -> None:
    """Write a whole file or none of it, or to stdout. Raises OSError."""
    if target == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = Path(os.path.realpath(target))  # like cp: through a symbolic link, not over it
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # a device or pipe (/dev/null) is written to, never replaced
        return
    _write_and_rename(path, data)


def _write_and_rename(path: Path, data: bytes) -> None:
    scratch = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(scratch, "xb") as file:
            file.write(data)
        if path.exists():
            os.chmod(scratch, stat.S_IMODE(path.stat().st_mode))
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _target(source: str, out: str | None, ending: str, *, many: bool) -> str:
    if out == STREAM and many:
        raise typer.BadParameter("stdout (-) holds one output only; name a folder", param_hint="--out")
    if out is None:
        return STREAM if source == STREAM else str(_with_ending(Path(source), ending))
    if many or out.endswith("/") or Path(out).is_dir():
        if Path(out).exists() and not Path(out).is_dir():
            raise typer.BadParameter(f"many inputs need a folder, and {out} is none", param_hint="--out")
        name = f"stdin{ending}" if source == STREAM else _with_ending(Path(source), ending).name
        return str(Path(out) / name)
    return out


def _with_ending(path: Path, ending: str) -> Path:
    return path.with_name(path.stem + ending)


def _refuse_collisions(jobs: Sequence[Job], in_place: bool) -> None:
    """No output may be written twice in one run, or over an input that nobody asked to change."""
    inputs = {os.path.realpath(job.source) for job in jobs if job.source != STREAM}
    taken: dict[str, str] = {}
    for job in jobs:
        if job.target == STREAM:
            continue
        path = os.path.realpath(job.target)
        if path in inputs and not in_place:
            raise typer.BadParameter(f"{job.target} is an input and would be overwritten")
        if path in taken:
            raise typer.BadParameter(f"{taken[path]} and {job.source} would both be written to {job.target}")
        taken[path] = job.source
