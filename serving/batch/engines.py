"""Who runs the units: processes of this machine, each at the end of a pipe. Knows no pictures.

A process that dies takes nothing with it but its unit, which another begins again (serving/batch/crashes.py);
when the job itself dies, its processes see that and end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from serving.batch.crashes import CrashRecord, last_begun, trail_path
from serving.batch.errors import WorkerLost, caught
from serving.batch.live_counts import LiveCounts, tick_into
from serving.batch.reports import UnitReport, read_report, report_path
from serving.batch.units import Unit
from serving.batch.worker import UnitWorker, WorkerSettings, make_worker

Reports = Generator[UnitReport, None, None]
"""Closing it ends the processes of an engine."""
MakeWorker = Callable[[WorkerSettings], UnitWorker]

# Deaths in a row before any worker was ready: the same will happen to all others.
_MAX_FAILED_STARTS = 3
# A worker that is told to end may be inside a model call; all that it is writing is a draft.
_END_TIMEOUT_S = 5.0
_READY = "ready"


class Engine(Protocol):
    """Runs units in any order, at most once each as far as anybody can see."""

    @property
    def facts(self) -> dict[str, Any]:
        """For report.json."""

    def run(self, settings: WorkerSettings, units: Iterator[Unit]) -> Reports:
        """Reports as units are done. Raises BatchError, TokenizerError, OSError."""

    def samples_in_work(self) -> int:
        """Samples done of units that are not: any thread may ask at any time; 0 where nobody counts."""


class LocalEngine:
    """`workers` processes with a session each."""

    def __init__(self, workers: int, make: MakeWorker = make_worker) -> None:
        """`make` runs once in every process; it crosses by its name."""
        self._workers, self._make = workers, make
        self._counts = LiveCounts(workers)

    @property
    def facts(self) -> dict[str, Any]:
        """See Engine."""
        return {"engine": "local", "workers": self._workers}

    def samples_in_work(self) -> int:
        """See Engine."""
        return self._counts.total()

    def run(self, settings: WorkerSettings, units: Iterator[Unit]) -> Reports:
        """See Engine."""
        crew = _Crew(settings, self._workers, self._make, self._counts)
        try:
            while crew.has_work(units):
                yield from crew.wait()
        finally:
            crew.end()


@dataclass(slots=True)
class _Work:
    """A unit, and what is known of earlier tries."""

    unit: Unit
    record: CrashRecord = field(default_factory=CrashRecord)


@dataclass(slots=True)
class _Hand:
    """A worker process as the job sees it."""

    process: BaseProcess
    connection: Connection
    slot: int
    """Where it counts."""
    is_ready: bool = False
    work: _Work | None = None


class _Crew:
    """Hands that each have one unit at most, so that a death is nobody else's."""

    def __init__(self, settings: WorkerSettings, size: int, make: MakeWorker, counts: LiveCounts) -> None:
        self._settings, self._size, self._make, self._counts = settings, size, make, counts
        self._hands: list[_Hand] = []
        self._again: list[_Work] = []
        self._failed_starts = 0

    def has_work(self, units: Iterator[Unit]) -> bool:
        """Give every free hand a unit, and hire while there are units; False once all is done."""
        for hand in [*self._hands]:
            if hand.work is None and (work := self._next(units)):
                self._give(hand, work)
        while len(self._hands) < self._size and (work := self._next(units)):
            hand = _hire(self._settings, self._make, self._counts)
            self._hands.append(hand)
            self._give(hand, work)
        return any(hand.work for hand in self._hands)

    def wait(self) -> Iterator[UnitReport]:
        """What came until now, at least one message or death. Raises what a worker raised."""
        by_connection = {hand.connection: hand for hand in self._hands}
        for connection in wait(list(by_connection)):
            hand = by_connection[connection]  # type: ignore[index]
            try:
                message = hand.connection.recv()
            except (EOFError, OSError):
                yield from self._bury(hand)
                continue
            if isinstance(message, Exception):
                raise message
            if message == _READY:
                hand.is_ready, self._failed_starts = True, 0
                continue
            assert hand.work is not None  # only a unit is answered by a report
            trail_path(self._settings.folder, hand.work.unit).unlink(missing_ok=True)
            hand.work = None
            self._counts.reset(hand.slot)
            yield message

    def end(self) -> None:
        """No process is left. Units in work are given up: their shards are drafts."""
        for hand in self._hands:
            if hand.work is not None:
                hand.process.terminate()
            hand.connection.close()
        for hand in self._hands:
            hand.process.join(_END_TIMEOUT_S)
            hand.process.kill()
            hand.process.join()
            self._counts.free(hand.slot)

    def _next(self, units: Iterator[Unit]) -> _Work | None:
        if self._again:
            return self._again.pop()
        unit = next(units, None)
        return None if unit is None else _Work(unit)

    def _give(self, hand: _Hand, work: _Work) -> None:
        hand.work = work
        unit, trail = work.record.as_begun(work.unit), None
        if work.record.is_careful:
            trail = trail_path(self._settings.folder, unit)
        with suppress(OSError):  # it has died meanwhile: `wait` will see that
            hand.connection.send((unit, trail))

    def _bury(self, hand: _Hand) -> Iterator[UnitReport]:
        """One has died. What it was at is done again, unless it had just finished that."""
        self._hands.remove(hand)
        self._counts.free(hand.slot)
        hand.connection.close()
        hand.process.join()
        if not hand.is_ready:
            self._failed_starts += 1
            if self._failed_starts == _MAX_FAILED_STARTS:
                raise WorkerLost(
                    f"worker processes end while they load the model (exit code {hand.process.exitcode}); "
                    "is there enough memory?"
                )
        if (work := hand.work) is None:
            return
        if report_path(self._settings.reports, work.unit.index).exists():
            yield read_report(self._settings.reports, work.unit.index)
            return
        if hand.is_ready:
            trail = trail_path(self._settings.folder, work.unit)
            work.record = work.record.after_death(last_begun(trail), work.unit)
            trail.unlink(missing_ok=True)
        self._again.append(work)


def _hire(settings: WorkerSettings, make: MakeWorker, counts: LiveCounts) -> _Hand:
    # Threads of a parent (progress, metrics) do not survive a fork.
    context = multiprocessing.get_context("spawn")
    # Read by numpy's library when it is loaded, which in the child is before any line of ours: without it,
    # every process would have as many threads as there are processors.
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    ours, theirs = context.Pipe()
    slot = counts.take()
    arguments = (theirs, settings, make, counts.shared, slot)
    process = context.Process(target=_work, args=arguments, daemon=True)
    process.start()
    theirs.close()
    return _Hand(process, ours, slot)


def _work(connection: Connection, settings: WorkerSettings, make: MakeWorker, counts: Any, slot: int) -> None:
    """Life of a worker process: one unit after the other, until the pipe closes."""
    # Ctrl-C in a terminal reaches all processes; the job decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = caught(lambda: make(settings))
    with suppress(EOFError, BrokenPipeError):
        if isinstance(worker, Exception):
            connection.send(worker)
            return
        connection.send(_READY)
        while True:
            unit, trail = connection.recv()
            connection.send(caught(partial(worker.run, unit, trail, tick_into(counts, slot))))


def _end_with_parent() -> None:
    """A job that is killed leaves no process behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker is always a child
    parent.join()
    os._exit(1)
