"""A folder of odd files through `tessera batch encode`: each bad one is counted under its reason."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.batch_job import job_command
from benchmarks.report import markdown_table
from serving.batch.tar_source import PICTURE_ENDINGS
from tokenizer.errors import TokenizerError
from tokenizer.images import read_image

EXIT_ALL_GOOD, EXIT_SOME_BAD = 0, 3


@dataclass(frozen=True, slots=True)
class OddRun:
    """What became of the job, and what should have."""

    folder: str
    files: int
    """With the ending of a picture: the job takes these."""
    rows: int
    """Good and bad pictures of the job."""
    exit_code: int
    errors: dict[str, int]
    """Of the job, by reason."""
    bad_files: dict[str, int]
    """Files that the library refuses to read, by reason."""

    @property
    def expected_code(self) -> int:
        """How the job has to end."""
        return EXIT_SOME_BAD if self.bad_files else EXIT_ALL_GOOD

    @property
    def is_right(self) -> bool:
        """Nothing is missing, and nothing is bad that need not be."""
        is_counted = self.errors == self.bad_files and self.rows == self.files
        return is_counted and self.exit_code == self.expected_code


def run_odd(odd: Path, out: Path, *options: object) -> OddRun:
    """One job over the folder. Raises RuntimeError with its words if it ends early."""
    job = subprocess.run(job_command([odd], out, *options), capture_output=True, text=True)
    if job.returncode not in (EXIT_ALL_GOOD, EXIT_SOME_BAD):
        raise RuntimeError(job.stderr)
    report = json.loads((out / "report.json").read_text())
    rows = report["pictures"] + report["errors"]
    bad = bad_files(odd)
    return OddRun(odd.name, len(list(picture_files(odd))), rows, job.returncode, report["error_reasons"], bad)


def bad_files(folder: Path) -> dict[str, int]:
    """How many files the library refuses, by reason."""
    reasons = Counter[str]()
    for path in picture_files(folder):
        try:
            read_image(path.read_bytes())
        except TokenizerError as error:
            reasons[error.reason] += 1
    return dict(reasons)


def picture_files(folder: Path) -> Iterator[Path]:
    """What a job over the folder reads."""
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURE_ENDINGS)


def odd_section(run: OddRun) -> str:
    """A paragraph and a table of the page."""
    table = markdown_table(
        ["reason", "errors of the job", "files that are bad"],
        [
            [reason, str(run.errors.get(reason, 0)), str(run.bad_files.get(reason, 0))]
            for reason in sorted({**run.errors, **run.bad_files})
        ],
    )
    return f"""{run.files} files of `{run.folder}`: {run.rows} rows, {sum(run.errors.values())} errors of \
{sum(run.bad_files.values())} files that are bad, exit code {run.exit_code} ({run.expected_code} expected).

{table}"""
