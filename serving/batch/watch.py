"""Where the metrics of a job go: each unit is counted, and told to a port, a file or a gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving.batch.job import Watcher
from serving.batch.options import Phase
from serving.batch.reports import Totals
from serving.batch.units import Plan
from serving.metrics.batch import BatchMetrics


@dataclass(frozen=True, slots=True)
class Metering:
    """Where metrics go."""

    port: int | None = None
    textfile: Path | None = None
    gateway: str | None = None


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


def publisher(metrics: BatchMetrics, metering: Metering) -> Callable[[], None]:
    """Writes and pushes; a gateway that is away is told once, and stops no job."""
    told = False

    def publish() -> None:
        nonlocal told
        if metering.textfile is not None:
            metrics.write(metering.textfile)
        if metering.gateway is None:
            return
        try:
            metrics.push(metering.gateway, "tessera_batch")
        except OSError as error:
            if not told:
                print(f"warning: cannot push metrics to {metering.gateway}: {error}", file=sys.stderr)
            told = True

    return publish
