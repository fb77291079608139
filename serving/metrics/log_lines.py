"""Log lines that were lost, read where they are counted: logging needs to know no metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from serving import logs


class LostLogLines(Collector):
    """One counter of the whole process."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The count as it is at this scrape."""
        yield CounterMetricFamily(
            "tessera_log_lines_dropped_total",
            "Log lines lost because stderr was too slow.",
            value=logs.dropped_lines(),
        )
