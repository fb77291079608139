"""Who looks at a job: a progress bar for people, metrics for Prometheus. Each is told after every unit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from serving.batch.job import Watcher
from serving.batch.reports import Totals
from serving.batch.units import Plan
from serving.batch.worker import Phase
from serving.metrics.batch import BatchMetrics

_WORDS: dict[Phase, str] = {"encode": "tokenizing", "whole": "1/2 tokenizing", "cut": "2/2 cutting"}


@contextmanager
def progress_bar() -> Iterator[Watcher]:
    """On stderr: pictures, their rate and size, errors, time left; lines where it is no terminal."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[Phase, tuple[Callable[[Totals], str], TaskID]] = {}

        def watch(phase: Phase, plan: Plan, totals: Totals) -> None:
            if phase not in bars:
                bar = progress.add_task(_WORDS[phase], total=plan.samples, facts="")
                bars[phase] = (_facts_since(totals), bar)
            facts, bar = bars[phase]
            progress.update(bar, completed=totals.samples, facts=facts(totals))

        yield watch


def metrics_watcher(metrics: BatchMetrics, publish: Callable[[], None]) -> Watcher:
    """Counts what this run does; `publish` is called after every unit."""
    seen: dict[Phase, tuple[int, int, int, int]] = {}

    def watch(phase: Phase, plan: Plan, totals: Totals) -> None:
        now = (totals.pictures, totals.errors, totals.tokens, totals.size_bytes)
        metrics.plan(plan.samples, totals.samples)
        if phase in seen:
            # The first pass of a set budget is work, but its pictures are counted when they are written.
            ok, errors, tokens, size_bytes = (
                (0, 0, 0, 0) if phase == "whole" else (a - b for a, b in zip(now, seen[phase], strict=True))
            )
            metrics.unit(phase, ok=ok, errors=errors, tokens=tokens, size_bytes=size_bytes)
        seen[phase] = now
        publish()

    return watch


def publisher(metrics: BatchMetrics, textfile: Path | None, gateway: str | None) -> Callable[[], None]:
    """Writes and pushes; a gateway that is away is told once, and stops no job."""
    told = False

    def publish() -> None:
        nonlocal told
        if textfile is not None:
            metrics.write(textfile)
        if gateway is None:
            return
        try:
            metrics.push(gateway, "tessera_batch")
        except OSError as error:
            if not told:
                print(f"warning: cannot push metrics to {gateway}: {error}", file=sys.stderr)
            told = True

    return publish


def _facts_since(begun: Totals) -> Callable[[Totals], str]:
    started_s, before = monotonic(), begun.samples

    def facts(totals: Totals) -> str:
        seconds = max(1e-9, monotonic() - started_s)
        rate = (totals.samples - before) / seconds
        each = totals.size_bytes / max(1, totals.pictures)
        bad = f", {totals.errors} bad" if totals.errors else ""
        return f"{rate:.1f} pictures/s, {each:.0f} bytes each{bad}"

    return facts


def _lines(console: Console) -> Watcher:
    facts: dict[Phase, Callable[[Totals], str]] = {}

    def watch(phase: Phase, plan: Plan, totals: Totals) -> None:
        tell = facts.setdefault(phase, _facts_since(totals))
        console.print(f"{_WORDS[phase]} {totals.samples}/{plan.samples}, {tell(totals)}", highlight=False)

    return watch
