"""Metrics of EncodeMany and DecodeMany that single requests do not have; the others count their items too."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.metrics import sets
from serving.status import INVALID_REASONS

# What an item can fail with beside its content. It is never shed, so no reason of overload is among them.
_ITEM_REASONS = (*INVALID_REASONS, "DEADLINE_UNMEETABLE", "INTERNAL", "MODEL_NOT_READY")


class BulkMetrics:
    """On the registry of the server's other metrics, with all series there from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._items = Histogram(
            "tessera_batch_rpc_items",
            "Items that one stream brought.",
            ("method",),
            buckets=sets.STREAM_ITEMS,
            registry=registry,
        )
        self._errors = Counter(
            "tessera_batch_rpc_item_errors_total",
            "Items whose result is an error.",
            ("method", "reason"),
            registry=registry,
        )
        self._in_window = Gauge(
            "tessera_batch_rpc_window_items",
            "Items that were read and are not answered yet.",
            ("method",),
            registry=registry,
        )
        for method in sets.BULK_METHODS:
            self._items.labels(method)
            self._in_window.labels(method)
            for reason in _ITEM_REASONS:
                self._errors.labels(method, reason)

    def item_opened(self, method: str) -> None:
        """An item was read."""
        self._in_window.labels(method).inc()

    def items_closed(self, method: str, count: int = 1) -> None:
        """Items were answered, or their stream ended before they were."""
        self._in_window.labels(method).dec(count)

    def item_failed(self, method: str, reason: str) -> None:
        """The result of an item is an error."""
        self._errors.labels(method, reason).inc()

    def stream_ended(self, method: str, item_count: int) -> None:
        """A stream ended, in any way, after so many items."""
        self._items.labels(method).observe(item_count)
