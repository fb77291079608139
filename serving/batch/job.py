"""The job: plan, go on where it stopped, watch, sum up. Knows neither processes nor pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from serving.batch.atomic import drafted, remove_drafts, write_json
from serving.batch.engines import Engine
from serving.batch.errors import TooManyErrors
from serving.batch.manifest import Manifest, begin, locked
from serving.batch.reports import Totals, read_report, report_path
from serving.batch.units import Plan, Unit

ERRORS, REPORT = "errors.jsonl", "report.json"
# A rate is judged only once there is something to judge.
_MIN_JUDGED = 100


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many bad pictures end the job: none, or a share."""

    fail_fast: bool = False
    max_error_rate: float = 1.0

    def check(self, totals: Totals) -> None:
        """Raises TooManyErrors."""
        if self.fail_fast and totals.errors:
            raise TooManyErrors(f"a picture is bad ({', '.join(totals.reasons)}), and --fail-fast was asked")
        rate = totals.errors / max(1, totals.samples)
        if totals.samples >= _MIN_JUDGED and rate > self.max_error_rate:
            raise TooManyErrors(
                f"{totals.errors} of {totals.samples} pictures are bad, {rate:.1%}; allowed are "
                f"{self.max_error_rate:.1%}"
            )


Watcher = Callable[[Plan, Totals], None]
"""Told the plan and the sums so far: first with what earlier runs did, then after every unit."""


def run_job(
    folder: Path,
    manifest: Manifest,
    units: Callable[[], Iterator[Unit]],
    engine: Engine,
    *,
    tolerance: Tolerance | None = None,
    watchers: Sequence[Watcher] = (),
) -> Totals:
    """Do what is not done yet, and write the errors and the report.

    Raises BatchError, TokenizerError, OSError; then what is done stays done.
    """
    tolerance = tolerance or Tolerance()
    started_s = monotonic()
    with locked(folder):
        begin(folder, manifest)
        remove_drafts(folder)
        totals = Totals()
        done = done_units(folder, manifest.plan.units)
        for index in sorted(done):
            totals.add(read_report(folder, index))
        for watcher in watchers:
            watcher(manifest.plan, totals)
        left = (unit for unit in units() if unit.index not in done)
        for report in engine.run(left):
            totals.add(report)
            for watcher in watchers:
                watcher(manifest.plan, totals)
            tolerance.check(totals)
        tolerance.check(totals)
        _write_errors(folder, manifest.plan.units)
        facts = {"model": manifest.model, "seconds": round(monotonic() - started_s, 1)}
        write_json(folder / REPORT, totals.as_json() | facts)
    return totals


def done_units(folder: Path, count: int) -> set[int]:
    """Units whose report is there."""
    return {index for index in range(count) if report_path(folder, index).exists()}


def _write_errors(folder: Path, count: int) -> None:
    """One line per bad picture, in the order of the source."""
    with drafted(folder / ERRORS) as draft, draft.open("w") as file:
        for index in range(count):
            for error in read_report(folder, index).errors:
                file.write(json.dumps(error) + "\n")
