"""What runs below the RPCs: calls of the model, and log lines that were lost. Knows no RPC."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from serving import logs
from serving.metrics import sets


class RuntimeMetrics:
    """Registers its series beside the others."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._model = "unknown"
        # Its sum over time is how busy the model is, and what wasted time is a share of: the stage
        # `inference` counts a shared call once per picture.
        self._model_call = Histogram(
            "tessera_model_call_seconds",
            "Time of one model call, whatever its batch.",
            ("model", "op"),
            buckets=sets.STAGE_S,
            registry=registry,
        )
        registry.register(_DroppedLines())

    def model_loaded(self, name: str) -> None:
        """From here on all series carry this model's name."""
        self._model = name
        for op in sets.OPS:
            self._model_call.labels(name, op)

    def model_call(self, op: str, seconds: float) -> None:
        """A model call ended, well or not."""
        self._model_call.labels(self._model, op).observe(seconds)


class _DroppedLines(Collector):
    """Reads the count where it is kept, so that logging needs to know no metrics."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """One counter, read at each scrape."""
        yield CounterMetricFamily(
            "tessera_log_lines_dropped_total",
            "Log lines lost because stderr was too slow.",
            value=logs.dropped_lines(),
        )
