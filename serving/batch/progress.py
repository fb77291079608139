"""What a person sees of a running job, on stderr: a bar that moves every second, or some lines."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from serving.batch.job import Watcher
from serving.batch.options import Phase
from serving.batch.reports import Totals
from serving.batch.units import Plan

_WORDS: dict[Phase, str] = {
    "encode": "tokenizing",
    "whole": "1/2 tokenizing",
    "cut": "2/2 cutting",
    "decode": "decoding",
}
_BAR_EVERY_S = 0.5
# A log file of a day's job stays readable.
_LINE_EVERY_S = 5.0
# Long enough to smooth out large pictures, short enough to show that a machine has become slow.
_WINDOW_S = 60.0
# Where units end seldom, the window is as long as these take.
_MIN_POINTS = 8


class Pace:
    """Pictures per second of late, and what that means for the rest."""

    def __init__(self, done: int, now_s: float) -> None:
        self._points = deque([(now_s, done)])

    def reach(self, done: int, now_s: float) -> None:
        """So many are done now; never fewer than were."""
        points = self._points
        points.append((now_s, max(done, points[-1][1])))
        while len(points) > _MIN_POINTS and points[1][0] < now_s - _WINDOW_S:
            points.popleft()

    @property
    def done(self) -> int:
        """As told last."""
        return self._points[-1][1]

    @property
    def rate(self) -> float:
        """Pictures per second."""
        (first_s, first), (last_s, last) = self._points[0], self._points[-1]
        return (last - first) / max(1e-9, last_s - first_s)

    def facts(self, plan: Plan, totals: Totals) -> str:
        """One line for people.

        >>> pace = Pace(0, 0.0)
        >>> pace.reach(50, 5.0)
        >>> pace.facts(Plan(1, 80, ""), Totals(pictures=40, errors=2, size_bytes=4000))
        '10.0 pictures/s, 100 bytes each, 2 bad, 0:00:03 left'
        """
        parts = [f"{self.rate:.1f} pictures/s"]
        if totals.pictures:
            parts.append(f"{totals.size_bytes / totals.pictures:.0f} bytes each")
        if totals.errors:
            parts.append(f"{totals.errors} bad")
        if self.rate > 0 and self.done < plan.samples:
            parts.append(f"{timedelta(seconds=round((plan.samples - self.done) / self.rate))} left")
        return ", ".join(parts)


@contextmanager
def progress(samples_in_work: Callable[[], int]) -> Iterator[Watcher]:
    """A watcher that shows the job; `samples_in_work` says what units have done that are not done yet."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=console) as display:
        bars = _Bars(display, samples_in_work)
        with _every(_BAR_EVERY_S, bars.move):
            yield bars.watch


class _Bars:
    """A bar for each phase; the last one moves."""

    def __init__(self, display: Progress, samples_in_work: Callable[[], int]) -> None:
        self._display, self._samples_in_work = display, samples_in_work
        self._bars: dict[Phase, tuple[TaskID, Pace]] = {}
        self._now: tuple[TaskID, Pace, Plan, Totals] | None = None

    def watch(self, phase: Phase, plan: Plan, totals: Totals) -> None:
        """See Watcher."""
        if phase not in self._bars:
            tell_resumed(self._display.console, phase, plan, totals)
            bar = self._display.add_task(_WORDS[phase], total=plan.samples, facts="")
            self._bars[phase] = (bar, Pace(totals.samples, monotonic()))
        self._now = (*self._bars[phase], plan, totals)
        self.move()

    def move(self) -> None:
        """To where the workers are. Runs in a thread of its own, too: the bar may be off for a moment."""
        if self._now is None:
            return
        bar, pace, plan, totals = self._now
        pace.reach(min(plan.samples, totals.samples + self._samples_in_work()), monotonic())
        self._display.update(bar, completed=pace.done, facts=pace.facts(plan, totals))


def tell_resumed(console: Console, phase: Phase, plan: Plan, totals: Totals) -> None:
    """What earlier runs did, if anything."""
    if totals.units == 0:
        return
    of_pass = f" of {_WORDS[phase]}" if phase in ("whole", "cut") else ""
    rest = "nothing is left to do" if totals.units == plan.units else "goes on"
    console.print(f"{rest}: {totals.units} of {plan.units} shards are done{of_pass}", highlight=False)


def _lines(console: Console) -> Watcher:
    paces: dict[Phase, Pace] = {}
    told_s = -_LINE_EVERY_S

    def watch(phase: Phase, plan: Plan, totals: Totals) -> None:
        nonlocal told_s
        now_s = monotonic()
        if phase not in paces:
            paces[phase] = Pace(totals.samples, now_s)
            tell_resumed(console, phase, plan, totals)
            return
        paces[phase].reach(totals.samples, now_s)
        if now_s - told_s >= _LINE_EVERY_S or totals.units == plan.units:
            told_s = now_s
            facts = paces[phase].facts(plan, totals)
            console.print(
                f"{_WORDS[phase]} {totals.samples}/{plan.samples}, {facts}", highlight=False, soft_wrap=True
            )

    return watch


@contextmanager
def _every(seconds: float, work: Callable[[], None]) -> Iterator[None]:
    """Calls `work` now and then while the block runs."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
