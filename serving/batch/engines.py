"""Who runs the units: processes of this machine. A process that dies costs time, and at worst one picture."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from serving.batch.crashes import run_recorded
from serving.batch.live_counts import LiveCounts, tick_into
from serving.batch.reports import UnitReport
from serving.batch.units import Unit
from serving.batch.worker import UnitWorker, WorkerSettings, make_worker

# Units that wait for a free process: enough to keep all busy, few enough to keep no long list.
_WAITING_PER_WORKER = 2
# Threads of a parent (progress, metrics) do not survive a fork.
_SPAWN = multiprocessing.get_context("spawn")


class Engine(Protocol):
    """Runs units in any order, at most once each as far as anybody can see."""

    @property
    def facts(self) -> dict[str, Any]:
        """For report.json."""

    def run(self, settings: WorkerSettings, units: Iterator[Unit]) -> Iterator[UnitReport]:
        """Reports as units are done. Raises BatchError, TokenizerError, OSError."""

    def samples_in_work(self) -> int:
        """Samples done of units that are not: any thread may ask at any time; 0 where nobody counts."""


class LocalEngine:
    """`workers` processes with a session each."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._counts = LiveCounts(_WAITING_PER_WORKER * workers)

    @property
    def facts(self) -> dict[str, Any]:
        """See Engine."""
        return {"engine": "local", "workers": self._workers}

    def samples_in_work(self) -> int:
        """See Engine."""
        return self._counts.total()

    def run(self, settings: WorkerSettings, units: Iterator[Unit]) -> Iterator[UnitReport]:
        """See Engine."""
        pool = _pool(settings, self._workers, self._counts)
        running: dict[Future[UnitReport], _Running] = {}
        try:
            while True:
                self._fill(pool, running, units)
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                try:
                    for future in done:
                        report = future.result()
                        self._counts.free(running.pop(future).slot)
                        yield report
                except BrokenProcessPool:
                    lost = list(running.values())
                    running.clear()
                    pool.shutdown(wait=True, cancel_futures=True)
                    for one in lost:
                        self._counts.free(one.slot)
                        yield _run_alone(settings, one.unit)
                    pool = _pool(settings, self._workers, self._counts)
        finally:
            # Only units in work are waited for: a stopped job leaves whole shards or none.
            pool.shutdown(wait=True, cancel_futures=True)

    def _fill(
        self, pool: ProcessPoolExecutor, running: dict[Future[UnitReport], _Running], units: Iterator[Unit]
    ) -> None:
        while len(running) < _WAITING_PER_WORKER * self._workers:
            unit = next(units, None)
            if unit is None:
                return
            slot = self._counts.take()
            running[pool.submit(_run_unit, unit, slot)] = _Running(unit, slot)


def _run_alone(settings: WorkerSettings, unit: Unit) -> UnitReport:
    """A unit that may have killed a process: nobody else may die with it."""
    while True:
        try:
            with _pool(settings, 1, LiveCounts(1)) as pool:
                return pool.submit(_run_recorded, unit, settings.folder).result()
        except BrokenProcessPool:
            continue  # the record counts the tries, and raises WorkerLost


@dataclass(frozen=True, slots=True)
class _Running:
    unit: Unit
    slot: int


def _pool(settings: WorkerSettings, workers: int, counts: LiveCounts) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, _SPAWN, _become_worker, (settings, counts.shared))


_worker: UnitWorker | Exception | None = None
_shared_counts: Any = None


def _become_worker(settings: WorkerSettings, counts: Any) -> None:
    """Once per process. An error is kept for the first unit: raised here, it would look like a death."""
    global _worker, _shared_counts
    _shared_counts = counts
    # numpy's own threads would fight those of the other processes.
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    try:
        _worker = make_worker(settings)
    except Exception as error:  # whatever it is, the caller of run gets it
        _worker = error


def _run_unit(unit: Unit, slot: int) -> UnitReport:
    return _ready_worker().run(unit, tick=tick_into(_shared_counts, slot))


def _run_recorded(unit: Unit, folder: Path) -> UnitReport:
    return run_recorded(_ready_worker(), unit, folder)


def _ready_worker() -> UnitWorker:
    assert _worker is not None  # the pool's initializer ran first
    if isinstance(_worker, Exception):
        raise _worker
    return _worker
