"""The bench of the graphs alone: every model, graph and number of threads has its row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from generated_pictures import picture

from benchmarks.graph_speed import Graph, GraphSpeed, graph_cases, graph_table, measure_graphs


def test_every_model_has_both_graphs_on_one_and_two_threads(tiny_artifact: Path) -> None:
    cases = graph_cases([str(tiny_artifact)], picture(3, 64, 64))
    assert {(graph.graph, graph.threads) for graph in cases} == {
        ("encoder", 1), ("decoder", 1), ("encoder", 2), ("decoder", 2),
    }  # fmt: skip
    speeds = measure_graphs(cases, runs=2)
    assert speeds.keys() == cases.keys()
    assert all(speed.wall_ms > 0 and speed.core_ms >= 0 for speed in speeds.values())


def test_threads_change_no_picture(tiny_artifact: Path) -> None:
    cases = graph_cases([str(tiny_artifact)], picture(3, 64, 64))
    one, two = (run() for graph, run in cases.items() if graph.graph == "decoder")
    assert np.array_equal(one["image"], two["image"])  # type: ignore[index]


def test_the_table_names_model_precision_and_what_one_core_serves() -> None:
    graph = Graph("small-int8", "0011aabb", "int8", "decoder", 2, 7_000_000)
    table = graph_table({graph: GraphSpeed(wall_ms=8.0, core_ms=12.5)})
    assert "| decoder | small-int8 `0011aabb` | int8 | 2 | 8.00 | 12.50 | 80 | 7.00 |" in table
