"""The shipped model under load for minutes: what the service promises, where nothing else is running."""

from __future__ import annotations

from pathlib import Path

import pytest
from load_runs import run_benchmark

HOUR_S = 3600


@pytest.mark.load
@pytest.mark.timeout(HOUR_S)
def test_overload_keeps_goodput_answers_refusals_and_probes_and_is_over_at_once(tmp_path: Path):
    found = run_benchmark("serving_overload", tmp_path, "--runs", "1", "--seconds", "30", timeout_s=HOUR_S)
    for factor in found["runs"]:
        # At five times the capacity gRPC's own part of four refusals is a seventh of an encode (docs/log.md).
        share = 0.9 if factor["factor"] == 2 else 0.6
        assert factor["goodput_per_s"] >= share * factor["capacity_per_s"]
        assert factor["refusal_p99_ms"] < 25
        assert factor["failed_probes"] == []
        assert factor["unexpected"] == {}
        assert factor["recovery_s"] < 5
        assert factor["memory_growth_mib"] < 256


@pytest.mark.load
@pytest.mark.timeout(HOUR_S)
def test_work_for_nobody_stays_below_two_percent_and_a_thousand_cancels_leave_nothing(tmp_path: Path):
    found = run_benchmark("serving_deadlines", tmp_path, "--runs", "1", "--seconds", "10", timeout_s=HOUR_S)
    (sweep,) = found["deadlines"]
    assert sum(row["wasted_s"] for row in sweep) <= 0.02 * sum(row["compute_s"] for row in sweep)
    assert max(row["overshoot_p99_ms"] for row in sweep) <= 50
    left = found["cancelling"]
    assert left["calls"] == 4000
    assert not any(left["gauges"].values())
    assert left["after"]["threads"] <= left["before"]["threads"]
    assert left["after"]["descriptors"] <= left["before"]["descriptors"]


@pytest.mark.load
@pytest.mark.timeout(HOUR_S)
def test_fifty_sigterms_under_load_lose_nothing(tmp_path: Path):
    trials = run_benchmark("serving_shutdown", tmp_path, timeout_s=HOUR_S)["trials"]
    assert len(trials) == 50
    assert all(
        (one["lost"], one["wrong"], one["exit_code"], one["watch_ended"]) == (0, {}, 0, True)
        for one in trials
    )


@pytest.mark.load
@pytest.mark.timeout(HOUR_S)
def test_two_hundred_clients_that_retry_send_a_tenth_more_at_most(tmp_path: Path):
    (found,) = run_benchmark("serving_retries", tmp_path, "--runs", "1", timeout_s=HOUR_S)["runs"]
    assert found["amplification"] <= 1.1


@pytest.mark.load
@pytest.mark.timeout(HOUR_S)
def test_slow_idle_and_vanishing_clients_cost_the_others_little(tmp_path: Path):
    found = run_benchmark("serving_slow_clients", tmp_path, "--runs", "1", timeout_s=HOUR_S)
    (companies,) = found["runs"]
    assert all(one["p99_ms"] <= 1.5 * companies[0]["p99_ms"] for one in companies[1:])
    assert max(found["descriptors_left"]) <= 0


@pytest.mark.load
@pytest.mark.timeout(HOUR_S)
def test_a_key_that_floods_costs_another_nothing_that_it_would_notice(tmp_path: Path):
    found = run_benchmark("serving_fairness", tmp_path, "--runs", "1", timeout_s=HOUR_S)
    ((alone, _, flooded),) = found["runs"]
    assert flooded["answered"] >= 0.999 * flooded["sent"]
    assert flooded["p99_ms"] <= 2 * alone["p99_ms"]


@pytest.mark.soak
@pytest.mark.timeout(2 * HOUR_S)
def test_half_an_hour_of_mixed_load_changes_nothing(tmp_path: Path):
    found = run_benchmark("serving_soak", tmp_path, timeout_s=2 * HOUR_S)
    assert found["slope_mib_in_10_minutes"] < 1
    assert found["failed"] == found["threads_grown"] == found["descriptors_grown"] == 0
