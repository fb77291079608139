"""The job: plan, go on where it stopped, watch, sum up. Knows neither processes nor pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from serving.batch.atomic import drafted, remove_drafts, write_json
from serving.batch.engines import Engine
from serving.batch.errors import OutputUnwritable, TooManyErrors
from serving.batch.manifest import Manifest, begin, locked
from serving.batch.options import EncodeOptions, Phase
from serving.batch.reports import ERRORS, REPORT, Totals, read_report, report_path
from serving.batch.units import Plan, Unit
from serving.batch.worker import PRICES, WorkerSettings
from tokenizer.set_price import Demand, Price

# A rate is judged only once there is something to judge.
_MIN_JUDGED = 100


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many bad pictures end the job: one, or a share."""

    fail_fast: bool = False
    max_error_rate: float = 1.0

    def check(self, totals: Totals) -> None:
        """Raises TooManyErrors."""
        if self.fail_fast and totals.errors:
            raise TooManyErrors(f"a picture is bad ({', '.join(totals.reasons)}), and none may be")
        rate = totals.errors / max(1, totals.samples)
        if totals.samples >= _MIN_JUDGED and rate > self.max_error_rate:
            raise TooManyErrors(
                f"{totals.errors} of {totals.samples} pictures are bad, {rate:.1%}; allowed are "
                f"{self.max_error_rate:.1%}"
            )


Watcher = Callable[[Phase, Plan, Totals], None]
"""Told the phase, the plan and the sums so far: first with what earlier runs did, then after every unit."""


@dataclass(frozen=True, slots=True)
class Job:
    """A folder, what it is to hold, and who does it."""

    settings: WorkerSettings
    plan: Plan
    units: Callable[[], Iterator[Unit]]
    engine: Engine
    tolerance: Tolerance = Tolerance()
    watchers: Sequence[Watcher] = field(default=())
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How it is done, for report.json: what changes no output."""

    def run(self) -> Totals:
        """Do what is not done yet, and write the errors and the report.

        Raises BatchError, TokenizerError, OSError; what is done by then stays done.
        """
        started_s, folder = monotonic(), self.settings.folder
        with locked(folder), _way_on_told(folder):
            begin(folder, Manifest(self.settings.options, self.settings.model_facts, self.plan))
            remove_drafts(folder)
            try:
                totals, new_samples = self._run_phases(folder)
            finally:
                # Of workers that died, or had to end in the middle of their work.
                remove_drafts(folder)
            _write_errors(folder, self.plan.units)
            self._write_report(totals, new_samples, monotonic() - started_s)
        return totals

    def _write_report(self, totals: Totals, new_samples: int, seconds: float) -> None:
        """What is there, what was asked, and how fast it went; a run with nothing to do changes nothing."""
        path, settings = self.settings.folder / REPORT, self.settings
        if path.exists() and not new_samples:
            return
        this_run = {
            "pictures": new_samples,
            "seconds": round(seconds, 1),
            "pictures_per_second": round(new_samples / max(seconds, 1e-9), 2),
        }
        facts = {"command": settings.options.command, "options": settings.options.as_json()}
        facts |= {"model": settings.model_facts, **self.facts, "this_run": this_run}
        write_json(path, totals.as_json() | facts)

    def _run_phases(self, folder: Path) -> tuple[Totals, int]:
        options = self.settings.options
        if isinstance(options, EncodeOptions) and options.set_budget is not None:
            return self._run_both_passes(options.set_budget.total_bytes)
        return self._run_phase(options.command, folder)

    def _run_both_passes(self, total_bytes: int) -> tuple[Totals, int]:
        """Whole streams, then the price, then the cuts. The wholes go once they are not needed."""
        wholes = self.settings.wholes
        if len(done_units(self.settings.folder, self.plan.units)) < self.plan.units:
            self._run_phase("whole", wholes)
            self._fix_price(total_bytes)
        result = self._run_phase("cut", self.settings.folder)
        shutil.rmtree(wholes, ignore_errors=True)
        return result

    def _fix_price(self, total_bytes: int) -> None:
        """What every unit may spend of the last bin, in the order of the set: the same for any engine."""
        demands = [_demand(self.settings.wholes, index) for index in range(self.plan.units)]
        price = Price.for_total(Demand.sum(demands), total_bytes)
        left, shares = price.left, []
        for demand in demands:
            share = min(left, demand.tokens_by_bin.get(price.bin, 0))
            shares.append(share)
            left -= share
        write_json(self.settings.wholes / PRICES, {"bin": price.bin, "left": shares})

    def _run_phase(self, phase: Phase, reports: Path) -> tuple[Totals, int]:
        """The sums over all units, and how many samples this run did."""
        totals, done = Totals(), done_units(reports, self.plan.units)
        for index in sorted(done):
            totals.add(read_report(reports, index))
        before = totals.samples
        self._tell(phase, totals)
        left = (unit for unit in self.plan.checked(self.units()) if unit.index not in done)
        if len(done) < self.plan.units:
            with closing(self.engine.run(replace(self.settings, phase=phase), left)) as reports_of_units:
                for report in reports_of_units:
                    totals.add(report)
                    self._tell(phase, totals)
                    self.tolerance.check(totals)
        self.tolerance.check(totals)
        return totals, totals.samples - before

    def _tell(self, phase: Phase, totals: Totals) -> None:
        for watcher in self.watchers:
            watcher(phase, self.plan, totals)


@contextmanager
def _way_on_told(folder: Path) -> Iterator[None]:
    """A full disk ends a job, and loses nothing that is done: whoever reads the error should know."""
    try:
        yield
    except OutputUnwritable as error:
        raise OutputUnwritable(
            f"{error}. What is done stays in {folder}: make room there, and the same command goes on"
        ) from error


def done_units(folder: Path, count: int) -> set[int]:
    """Units whose report is there."""
    return {index for index in range(count) if report_path(folder, index).exists()}


def _demand(wholes: Path, index: int) -> Demand:
    report = read_report(wholes, index)
    return Demand(report.least_bytes, {int(place): tokens for place, tokens in report.demand.items()})


def _write_errors(folder: Path, count: int) -> None:
    """One line per bad picture, in the order of the source."""
    with drafted(folder / ERRORS) as draft, draft.open("w") as file:
        for index in range(count):
            for error in read_report(folder, index).errors:
                file.write(json.dumps(error) + "\n")
