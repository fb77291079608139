"""The encoder graph and the decoder graph alone, of several models and on one and two threads.

Wall time says what a caller waits; processor time of all threads says what a core can serve: on two threads
the first falls and the second must not rise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.progress import track

from benchmarks.pictures import Pixels
from benchmarks.report import markdown_table, number
from tokenizer import ImageTokenizer
from tokenizer.preprocess import to_model_input

THREADS = (1, 2)
WARM_UP_RUNS = 3


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph of one model in one session."""

    model: str
    fingerprint: str
    precision: str
    graph: str
    threads: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GraphSpeed:
    """Medians over all runs."""

    wall_ms: float
    core_ms: float
    """Processor time of all threads."""


def graph_cases(models: Sequence[str], pixels: Pixels) -> dict[Graph, Callable[[], object]]:
    """Encoder and decoder of every model on one and two threads, on all tokens of one picture."""
    cases: dict[Graph, Callable[[], object]] = {}
    for model in models:
        for threads in THREADS:
            cases |= _cases(ImageTokenizer.from_pretrained(model, num_threads=threads), threads, pixels)
    return cases


def _cases(tokenizer: ImageTokenizer, threads: int, pixels: Pixels) -> dict[Graph, Callable[[], object]]:
    (whole,) = tokenizer.encode([pixels])
    decode = tokenizer.decoder_inputs([whole], whole.canvas)
    basis = {name: decode[name] for name in ("vertical", "horizontal")}
    encode = {"image": to_model_input([pixels]), **basis}
    return {
        _graph(tokenizer, "encoder", threads): lambda: tokenizer.encoder.run(**encode),
        _graph(tokenizer, "decoder", threads): lambda: tokenizer.decoder.run(**decode),
    }


def _graph(tokenizer: ImageTokenizer, name: str, threads: int) -> Graph:
    artifact = tokenizer.artifact
    size_bytes = len(artifact.graphs[f"{name}.onnx"])
    config = artifact.config
    return Graph(config.name, artifact.fingerprint, config.precision, name, threads, size_bytes)


def measure_graphs(cases: Mapping[Graph, Callable[[], object]], runs: int) -> dict[Graph, GraphSpeed]:
    """Medians of all cases, which take turns in an order that is shuffled anew each round."""
    for run in cases.values():
        for _ in range(WARM_UP_RUNS):
            run()
    graphs = list(cases)
    times_s = np.zeros((len(graphs), runs, 2))
    random = np.random.default_rng(0)
    for turn in track(range(runs), description="graphs"):
        for place in random.permutation(len(graphs)):
            wall_s, core_s = time.perf_counter(), time.process_time()
            cases[graphs[place]]()
            times_s[place, turn] = time.perf_counter() - wall_s, time.process_time() - core_s
    medians_ms = np.median(1000 * times_s, axis=1).round(3).tolist()
    return {graph: GraphSpeed(*median) for graph, median in zip(graphs, medians_ms, strict=True)}


def graph_table(speeds: Mapping[Graph, GraphSpeed]) -> str:
    """Markdown: one row per graph, model and number of threads."""
    header = ["graph", "model", "precision", "threads", "median ms", "core ms", "pictures/s/core", "MB"]
    rows = [
        [
            graph.graph,
            f"{graph.model} `{graph.fingerprint}`",
            graph.precision,
            str(graph.threads),
            number(speed.wall_ms),
            number(speed.core_ms),
            number(1000 / speed.core_ms, 0),
            number(graph.size_bytes / 1e6),
        ]
        for graph, speed in sorted(
            speeds.items(), key=lambda item: (item[0].graph != "encoder", item[0].threads)
        )
    ]
    return markdown_table(header, rows)
