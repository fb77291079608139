"""The service under load for some seconds, its model replaced by a sleep: what must hold at any speed."""

from __future__ import annotations

from pathlib import Path

import pytest
from load_runs import run_benchmark

SHORT = ("--quick", "--fake")


def test_overload_is_refused_in_order_and_probes_never_fail(tmp_path: Path):
    (found,) = run_benchmark(
        "serving_overload",
        tmp_path,
        *SHORT,
        "--seconds",
        "3",
        "--factors",
        "5",
        "--slo-ms",
        "10000",
        "--places",
        "together",
    )["runs"]
    assert found["unexpected"] == {}
    assert found["failed_probes"] == []
    assert found["probes"] >= 6
    # More than can be served was sent, and what was served was as much as without the overload, about.
    assert found["refusal_p99_ms"] > 0
    assert found["goodput_per_s"] > 0.5 * found["capacity_per_s"]
    assert found["memory_growth_mib"] < 256


def test_deadlines_are_not_worked_for_in_vain_and_leaving_leaves_nothing(tmp_path: Path):
    found = run_benchmark("serving_deadlines", tmp_path, *SHORT, "--seconds", "1", "--cancels", "30")
    (sweep,) = found["deadlines"]
    assert [row["deadline_ms"] for row in sweep] == [1, 10, 100, 1000, 10_000, 0]
    assert all(row["other"] == {} for row in sweep)
    assert all(row["sent"] == row["ok"] + row["exceeded"] + row["refused"] for row in sweep)
    assert sum(row["wasted_s"] for row in sweep) < 0.15 * sum(row["compute_s"] for row in sweep)
    left = found["cancelling"]
    assert not any(left["gauges"].values())
    assert left["started"] == left["handled"]
    assert left["after"]["threads"] <= left["before"]["threads"]
    assert left["after"]["descriptors"] <= left["before"]["descriptors"]
    assert sum(left["found_in"].values()) > 0


def test_sigterm_under_load_loses_nothing(tmp_path: Path):
    for trial in run_benchmark("serving_shutdown", tmp_path, *SHORT, "--seconds", "1")["trials"]:
        assert (trial["lost"], trial["exit_code"]) == (0, 0)
        # gRPC itself cancels a call that reaches it in the instant of its stop: about one in a thousand.
        assert trial["wrong"] in ({}, {"CANCELLED": 1})
        assert trial["watched"] == ["SERVING", "NOT_SERVING"] and trial["watch_ended"]
        assert trial["statuses"]["OK"] > 0


@pytest.mark.load
def test_retries_do_not_multiply_an_overload(tmp_path: Path):
    # Of few clients, so that the retries with which each one starts are spent early.
    arguments = ("--seconds", "6", "--clients", "10")
    (found,) = run_benchmark("serving_retries", tmp_path, *SHORT, *arguments)["runs"]
    assert found["late_amplification"] < 1.2
    assert found["received"] > found["calls"] > 0


@pytest.mark.load
def test_bad_company_fails_nobody_and_keeps_no_descriptors(tmp_path: Path):
    found = run_benchmark("serving_slow_clients", tmp_path, *SHORT, "--seconds", "1.5")
    (companies,) = found["runs"]
    assert len(companies) == 5
    assert all(one["failed"] == 0 and one["answered_per_s"] > 0 for one in companies)
    assert max(found["descriptors_left"]) <= 0


@pytest.mark.load
def test_mixed_load_leaves_threads_and_descriptors_as_they_were(tmp_path: Path):
    found = run_benchmark("serving_soak", tmp_path, *SHORT, "--seconds", "6")
    assert found["failed"] == found["threads_grown"] == found["descriptors_grown"] == 0
    assert len(found["samples"]) >= 10


@pytest.mark.load
def test_a_key_that_floods_is_refused_and_the_other_is_served(tmp_path: Path):
    (found,) = run_benchmark("serving_fairness", tmp_path, *SHORT, "--seconds", "2")["runs"]
    alone, _, flooded = found
    assert alone["answered"] == alone["sent"] > 0
    assert flooded["answered"] == flooded["sent"] > 0
    # Whatever was not answered was refused for the limit and for nothing else.
    assert flooded["other_refused"] == flooded["other_sent"] - flooded["other_answered"] > 0
