"""What a batch job counts, for a port to scrape, a textfile collector, or a Pushgateway."""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    start_http_server,
    write_to_textfile,
)
from prometheus_client.exposition import push_to_gateway

_PUSH_TIMEOUT_S = 5.0

disable_created_metrics()  # type: ignore[no-untyped-call]


class BatchMetrics:
    """Counters of one run, and gauges of the job. Counters begin at 0 with every run."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge = self._counter, self._gauge
        self._pictures = counter("pictures_total", "Pictures done by this run.", ("outcome",))
        self._tokens = counter("tokens_total", "Tokens written by this run.")
        self._size = counter(
            "stream_bytes_total",
            "Bytes of streams or rebuilt pictures written by this run.",
        )
        self._units = counter("units_total", "Output shards done by this run.", ("phase",))
        self._expected = gauge("expected_pictures", "Pictures of the whole job.")
        self._done = gauge("done_pictures", "Pictures of the job that are done in this phase, by any run.")
        self._success = gauge("last_success_timestamp_seconds", "When the job was last done.")
        for outcome in ("ok", "error"):
            self._pictures.labels(outcome)

    def plan(self, expected: int, done: int) -> None:
        """What there is to do, and what earlier runs did."""
        self._expected.set(expected)
        self._done.set(done)

    def unit(self, phase: str, *, ok: int, errors: int, tokens: int, size_bytes: int) -> None:
        """A unit is done."""
        self._units.labels(phase).inc()
        self._pictures.labels("ok").inc(ok)
        self._pictures.labels("error").inc(errors)
        self._tokens.inc(tokens)
        self._size.inc(size_bytes)

    def succeeded(self) -> None:
        """The job is done."""
        self._success.set(time.time())

    def serve(self, port: int) -> None:
        """Answer scrapes until the process ends. Raises OSError if the port is taken."""
        start_http_server(port, addr="127.0.0.1", registry=self.registry)

    def write(self, path: Path) -> None:
        """For node_exporter's textfile collector; whole or not at all."""
        write_to_textfile(str(path), self.registry)

    def push(self, gateway: str, job: str) -> None:
        """To a Pushgateway. Raises OSError."""
        push_to_gateway(gateway, job=job, registry=self.registry, timeout=_PUSH_TIMEOUT_S)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"tessera_batch_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"tessera_batch_{name}", text, registry=self.registry)
