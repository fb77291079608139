"""Outcomes -> figures. Knows no network and no terminal.

Latencies and counts are over the calls that were due after the warm-up; throughput and goodput over the
answers that came between the warm-up and the end of sending, so that a backlog which is worked off later
does not pass for speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serving.load.outcome import Outcome
from serving.load.plan import LoadPlan
from serving.load.processes import LoadRun

# 1 ms to 65 s, doubling at every second edge: fine enough to see two modes.
HISTOGRAM_EDGES_MS = tuple(round(2 ** (i / 2), 3) for i in range(33))


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds. A percentile is a latency that was seen: the next one up, never interpolated."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Second:
    """What happened in one second of the run."""

    second: int
    sent: int
    ok: int
    good: int
    refused: int
    failed: int
    ok_p50_ms: float | None
    ok_p99_ms: float | None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The figures of one run."""

    plan: dict[str, Any]
    was_stopped: bool
    observed_s: float
    sent: int
    offered_per_s: float
    throughput_per_s: float
    goodput_per_s: float | None
    statuses: dict[str, int]
    """Code and reason -> calls."""

    ok_latency: Percentiles | None
    ok_latency_by_kind: dict[str, Percentiles]
    refusal_latency: Percentiles | None
    first_message: Percentiles | None
    generator_lag: Percentiles | None
    """How late calls were sent. Large values mean that this machine, not the server, was too slow."""

    seconds: list[Second]
    histogram: dict[str, int]
    """Upper edge in milliseconds -> answered calls."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def ok(self) -> int:
        """Calls that were answered in full."""
        return self.statuses.get("OK", 0)


def summarize(plan: LoadPlan, run: LoadRun) -> LoadReport:
    """The report of a run; of a part of it, if it was stopped."""
    counted = [outcome for outcome in run.outcomes if outcome.due_s >= plan.warm_up_s]
    ok = [outcome for outcome in counted if outcome.is_ok]
    observed_s = max(0.0, run.ended_s - plan.warm_up_s)
    in_time = [o for o in run.outcomes if o.is_ok and plan.warm_up_s <= o.ended_s < run.ended_s]
    kinds = sorted({outcome.kind for outcome in ok}, key=lambda kind: kind.value)
    return LoadReport(
        plan=_plan_facts(plan),
        was_stopped=run.was_stopped,
        observed_s=observed_s,
        sent=len(counted),
        offered_per_s=_rate(len(counted), observed_s),
        throughput_per_s=_rate(len(in_time), observed_s),
        goodput_per_s=None if plan.slo_s is None else _rate(_good_count(in_time, plan.slo_s), observed_s),
        statuses=dict(Counter(outcome.label for outcome in counted).most_common()),
        ok_latency=percentiles(outcome.latency_s for outcome in ok),
        ok_latency_by_kind={
            kind.value: found
            for kind in kinds
            if (found := percentiles(outcome.latency_s for outcome in ok if outcome.kind is kind))
        },
        refusal_latency=percentiles(outcome.latency_s for outcome in counted if outcome.is_refused),
        first_message=percentiles(o.first_s - o.due_s for o in ok if o.first_s is not None),
        generator_lag=percentiles(outcome.sent_s - outcome.due_s for outcome in counted),
        seconds=_seconds(plan, run),
        histogram=_histogram(ok),
    )


def percentiles(seconds: Iterable[float]) -> Percentiles | None:
    """None of nothing.

    >>> percentiles([0.001, 0.002, 0.004])
    Percentiles(count=3, p50_ms=2.0, p90_ms=4.0, p99_ms=4.0, max_ms=4.0)
    """
    values = 1000 * np.asarray(list(seconds), np.float64)
    if not values.size:
        return None
    p50, p90, p99 = np.percentile(values, (50, 90, 99), method="higher").round(3).tolist()
    return Percentiles(len(values), p50, p90, p99, round(float(values.max()), 3))


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 3) if seconds > 0 else 0.0


def _good_count(outcomes: Sequence[Outcome], slo_s: float) -> int:
    return sum(outcome.latency_s <= slo_s for outcome in outcomes)


def _seconds(plan: LoadPlan, run: LoadRun) -> list[Second]:
    """Calls by the second in which they were due, answers by the second in which they came."""
    sent = Counter(int(outcome.due_s) for outcome in run.outcomes)
    ended: dict[int, list[Outcome]] = {}
    for outcome in run.outcomes:
        ended.setdefault(int(outcome.ended_s), []).append(outcome)
    last = max([*sent, *ended], default=-1)
    return [_second(second, sent[second], ended.get(second, []), plan.slo_s) for second in range(last + 1)]


def _second(second: int, sent: int, ended: Sequence[Outcome], slo_s: float | None) -> Second:
    ok = [outcome for outcome in ended if outcome.is_ok]
    refused = sum(outcome.is_refused for outcome in ended)
    found = percentiles(outcome.latency_s for outcome in ok)
    return Second(
        second=second,
        sent=sent,
        ok=len(ok),
        good=len(ok) if slo_s is None else _good_count(ok, slo_s),
        refused=refused,
        failed=len(ended) - len(ok) - refused,
        ok_p50_ms=found.p50_ms if found else None,
        ok_p99_ms=found.p99_ms if found else None,
    )


def _histogram(ok: Sequence[Outcome]) -> dict[str, int]:
    """Only the edges between the fastest and the slowest."""
    values = np.clip([1000 * outcome.latency_s for outcome in ok], 0, HISTOGRAM_EDGES_MS[-1])
    places = np.searchsorted(HISTOGRAM_EDGES_MS, values)
    counts = np.bincount(places, minlength=len(HISTOGRAM_EDGES_MS))
    used = np.flatnonzero(counts)
    if not used.size:
        return {}
    return {f"{HISTOGRAM_EDGES_MS[i]:.3g}": int(counts[i]) for i in range(used[0], used[-1] + 1)}


def _plan_facts(plan: LoadPlan) -> dict[str, Any]:
    facts = asdict(plan)
    facts["mix"] = {kind.value: weight for kind, weight in plan.mix.items()}
    facts["arrivals"] = plan.arrivals.value if plan.is_open else None
    return facts
