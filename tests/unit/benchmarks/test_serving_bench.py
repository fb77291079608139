"""Figures of the service's benchmarks that are computed from what was seen."""

from __future__ import annotations

import struct

import pytest

pytest.importorskip("grpc")

from benchmarks.server_watch import ProcessSize
from benchmarks.serving_overload import full_queue_s, recovery_s
from benchmarks.serving_slow_clients import half_message
from benchmarks.serving_soak import Sample, slope_mib
from serving.load.outcome import Outcome
from serving.load.plan import LoadPlan, RpcKind
from serving.load.processes import LoadRun
from serving.load.summary import LoadReport, summarize


def light_load(*latencies_s: float | None) -> LoadReport:
    """One call in each second, with this latency; None is refused."""
    outcomes = [
        Outcome(
            RpcKind.ENCODE,
            second + 0.1,
            second + 0.1,
            second + 0.1 + (latency_s or 0.001),
            "OK" if latency_s else "RESOURCE_EXHAUSTED",
            "" if latency_s else "QUEUE_FULL",
        )
        for second, latency_s in enumerate(latencies_s)
    ]
    plan = LoadPlan("localhost:1", rate_per_s=1.0, duration_s=float(len(latencies_s)))
    return summarize(plan, LoadRun(outcomes, plan.end_s, was_stopped=False))


def test_recovery_is_the_end_of_the_last_slow_second():
    assert recovery_s(light_load(0.1, 0.1, 0.1), normal_p99_ms=200) == 0
    assert recovery_s(light_load(0.5, 0.1, 0.1), normal_p99_ms=200) == 1
    assert recovery_s(light_load(0.5, 0.1, 0.5, 0.1), normal_p99_ms=200) == 3


def test_a_second_in_which_everything_was_refused_is_slow():
    assert recovery_s(light_load(None, None, 0.1), normal_p99_ms=200) == 2


def test_the_slope_of_memory_is_that_of_a_line_through_all_samples():
    samples = [
        Sample(t, ProcessSize(100 + t / 600 + (-1) ** i * 0.001, 10, 10)) for i, t in enumerate(range(600))
    ]
    assert slope_mib(samples) == pytest.approx(1.0, abs=0.01)


def test_a_full_queue_takes_longer_on_a_slower_server():
    assert full_queue_s(10) == 2 * full_queue_s(20) > 4


def test_a_half_sent_message_announces_more_than_it_carries():
    frames, kinds, payload = half_message(), [], b""
    while frames:
        length = int.from_bytes(frames[:3], "big")
        kinds.append(frames[3])
        payload, frames = frames[9 : 9 + length], frames[9 + length :]
    assert kinds == [1, 0]  # HEADERS, DATA
    (announced,) = struct.unpack(">I", payload[1:5])
    assert announced > len(payload) - 5 > 0
