"""Outcomes to figures: what counts as answered, good and refused, and in which second."""

from __future__ import annotations

import json

from rich.console import Console

from serving.load.outcome import Outcome
from serving.load.plan import LoadPlan, RpcKind
from serving.load.processes import LoadRun
from serving.load.summary import percentiles, summarize
from serving.load.table import print_report

PLAN = LoadPlan("localhost:1", rate_per_s=10.0, duration_s=2.0, warm_up_s=1.0, slo_s=0.5)


def answered(due_s: float, latency_s: float, late_s: float = 0.0, kind=RpcKind.ENCODE) -> Outcome:
    return Outcome(kind, due_s, due_s + late_s, due_s + latency_s, "OK")


def refused(due_s: float, latency_s: float, code="RESOURCE_EXHAUSTED", reason="QUEUE_FULL") -> Outcome:
    return Outcome(RpcKind.ENCODE, due_s, due_s, due_s + latency_s, code, reason)


def report(*outcomes: Outcome, plan: LoadPlan = PLAN, ended_s: float = 3.0, was_stopped: bool = False):
    return summarize(plan, LoadRun(list(outcomes), ended_s, was_stopped))


def test_latency_counts_from_when_a_call_was_due_not_from_when_it_was_sent():
    found = report(answered(1.0, 0.4, late_s=0.3))
    assert found.ok_latency.p50_ms == 400.0
    assert found.generator_lag.p50_ms == 300.0


def test_the_warm_up_is_left_out():
    found = report(answered(0.5, 0.1), refused(0.9, 0.01), answered(1.5, 0.2))
    assert (found.sent, found.statuses, found.ok_latency.p50_ms) == (1, {"OK": 1}, 200.0)


def test_a_backlog_that_is_answered_after_the_run_is_no_throughput():
    found = report(answered(1.0, 0.1), answered(2.9, 0.5), answered(2.95, 4.0))
    assert found.ok == 3
    assert found.throughput_per_s == 0.5


def test_goodput_counts_what_was_answered_within_the_slo():
    found = report(answered(1.0, 0.5), answered(1.1, 0.51), answered(1.2, 0.1), refused(1.3, 0.1))
    assert (found.throughput_per_s, found.goodput_per_s) == (1.5, 1.0)
    assert report(answered(1.0, 0.1), plan=LoadPlan("x:1", clients=1)).goodput_per_s is None


def test_only_what_the_server_itself_turned_away_counts_as_refused():
    found = report(
        refused(1.0, 0.010),
        refused(1.1, 0.020, "DEADLINE_EXCEEDED", "DEADLINE_UNMEETABLE"),
        refused(1.2, 0.030, "UNAVAILABLE", "SERVER_DRAINING"),
        refused(1.3, 5.0, "DEADLINE_EXCEEDED", ""),
        refused(1.4, 6.0, "UNAVAILABLE", ""),
        refused(1.5, 7.0, "INVALID_ARGUMENT", "IMAGE_CORRUPT"),
    )
    assert (found.refusal_latency.count, found.refusal_latency.max_ms) == (3, 30.0)
    assert found.statuses["UNAVAILABLE"] == found.statuses["UNAVAILABLE SERVER_DRAINING"] == 1
    assert (found.seconds[1].refused, sum(second.failed for second in found.seconds)) == (3, 3)


def test_seconds_hold_calls_by_due_time_and_answers_by_their_own():
    found = report(answered(0.2, 0.1), answered(0.9, 0.3), refused(2.5, 0.7))
    assert [(s.sent, s.ok, s.refused) for s in found.seconds] == [(2, 1, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]


def test_a_percentile_is_a_latency_that_was_seen():
    values = [0.001 * i for i in range(1, 101)]
    found = percentiles(values)
    assert (found.p50_ms, found.p90_ms, found.p99_ms, found.max_ms) == (51.0, 91.0, 100.0, 100.0)
    assert percentiles([]) is None


def test_the_histogram_holds_every_answered_call_once_however_slow():
    found = report(*(answered(1.0, 10.0**power) for power in range(-6, 4)))
    assert sum(found.histogram.values()) == 10


def test_a_report_of_nothing_is_still_a_report():
    found = report(ended_s=0.0, was_stopped=True)
    assert (found.sent, found.throughput_per_s, found.ok_latency) == (0, 0.0, None)
    print_report(found, Console(quiet=True))
    json.dumps(found.as_dict())


def test_people_are_told_when_the_generator_was_the_slow_one():
    with (console := Console(width=200)).capture() as capture:
        print_report(report(answered(1.0, 0.1), answered(1.1, 0.9, late_s=0.8)), console)
    assert "short of processor time" in capture.get()
    with console.capture() as capture:
        print_report(report(answered(1.0, 0.1)), console)
    assert "processor time" not in capture.get()
