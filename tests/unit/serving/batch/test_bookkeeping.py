"""What a job does beside its workers costs as much for the last unit as for the first ones."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator

from batch_fakes import FACTS

from serving.batch.job import Job
from serving.batch.options import EncodeOptions
from serving.batch.progress import progress
from serving.batch.reports import Extreme, UnitReport
from serving.batch.units import Plan, Unit
from serving.batch.watch import Metering, metrics_watcher, publisher
from serving.batch.worker import WorkerSettings
from serving.metrics.batch import BatchMetrics

UNITS = 1010


class Prompt:
    """An engine whose units are done at once; it counts what the job calls from each to the next."""

    def __init__(self) -> None:
        self.facts: dict[str, object] = {}
        self.calls: list[int] = []

    def samples_in_work(self) -> int:
        return 0

    def run(self, settings: WorkerSettings, units: Iterator[Unit]) -> Iterator[UnitReport]:
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += 1

        for unit in units:
            report = report_of(unit)
            report.write(settings.folder)
            calls = 0
            sys.setprofile(count)
            yield report
            sys.setprofile(None)
            self.calls.append(calls)


def report_of(unit: Unit) -> UnitReport:
    """A hundred pictures, one of them bad, and extremes that are seldom new ones."""
    report = UnitReport.of(unit)
    for number in range(99):
        report.add_picture(16, 26)
        expected_db = 20 + (unit.index * 7919 + number * 31) % 1000 / 50
        report.extremes.append(Extreme(expected_db, "a.tar", f"{number:03d}", 26, unit.index, number))
    report.errors.append({"source": "a.tar", "key": "099", "reason": "IMAGE_MALFORMED", "message": ""})
    return report


def test_the_thousandth_unit_costs_the_job_what_the_tenth_did(tmp_path, monkeypatch):
    # Writing through to the disk costs the test most of its time, and nothing of what is counted.
    monkeypatch.setattr("serving.batch.atomic._sync", lambda path: None)

    def units() -> Iterator[Unit]:
        return (Unit(index, "tar", "a.tar", 100 * index, 100 * index + 100) for index in range(UNITS))

    engine, metrics = Prompt(), BatchMetrics()
    settings = WorkerSettings(tmp_path, EncodeOptions(("a.tar",)), FACTS)
    sizes: list[int] = []
    with progress(engine.samples_in_work) as bar:
        watchers = [
            bar,
            metrics_watcher(metrics, publisher(metrics, Metering(textfile=tmp_path / ".prom"))),
            lambda phase, plan, totals: sizes.append(len(pickle.dumps(totals))),
        ]
        Job(settings, Plan.of(units()), units, engine, watchers=watchers).run()
    early, late = sorted(engine.calls[10:30]), sorted(engine.calls[-20:])
    assert late[10] <= 1.05 * early[10]
    # Numbers get longer; nothing is kept of each unit.
    assert sizes[-1] <= sizes[10] + 100
