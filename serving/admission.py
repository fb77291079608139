"""Who may come in: bounds on RPCs and on memory, and the count that a drain waits for.

Decides on the raw size of a request and the size of a picture in its header, before either is worked on.
Knows no protobuf and no model. Lives on the event loop, so it needs no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from serving.metrics.model import ModelMetrics
from serving.metrics.server import Metrics
from serving.status import Draining, NotReady, QueueFull

# A shed request costs microseconds; a picture at 256 px costs tens of milliseconds on one core. Two such
# pictures later there may be room.
RETRY_AFTER_S = 0.1
LOADING_RETRY_AFTER_S = 1.0


class ServerState(Enum):
    """Life of a server, in this order."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"


class Admission:
    """Counts work in flight and refuses what is beyond the limits."""

    def __init__(self, *, max_rpcs: int, max_truncates: int, max_size_bytes: int, metrics: Metrics) -> None:
        self.state = ServerState.LOADING
        self._metrics = metrics
        # Truncate has its own room, so that it never waits behind inference nor takes its place.
        self._max_rpcs = {True: max_truncates, False: max_rpcs}
        self._max_size_bytes = max_size_bytes
        self._rpcs: dict[bool, int] = {True: 0, False: 0}
        self._size_bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """RPCs in work, without health, reflection and ModelService."""
        return sum(self._rpcs.values())

    async def wait_idle(self, timeout_s: float) -> bool:
        """True once nothing is in flight; False if that took too long."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    @contextmanager
    def rpc(self, method: str) -> Iterator[None]:
        """One RPC in work. Raises NotReady, Draining or QueueFull."""
        self._check_state(method)
        is_truncate = method == "Truncate"
        limit = self._max_rpcs[is_truncate]
        if self._rpcs[is_truncate] >= limit:
            self._metrics.rejected(method, "concurrency")
            raise QueueFull(
                f"{limit} requests are in work already", bound="concurrency", retry_after_s=RETRY_AFTER_S
            )
        self._rpcs[is_truncate] += 1
        self._idle.clear()
        self._metrics.in_flight(method, +1)
        try:
            yield
        finally:
            self._rpcs[is_truncate] -= 1
            self._metrics.in_flight(method, -1)
            if self.in_flight == 0:
                self._idle.set()

    @contextmanager
    def memory(self, method: str, op: str, size_bytes: int, model_metrics: ModelMetrics) -> Iterator[None]:
        """Memory of one picture, from before it is decoded until its reply is written. Raises QueueFull."""
        if self._size_bytes + size_bytes > self._max_size_bytes:
            self._metrics.rejected(method, "queue_bytes")
            raise QueueFull(
                "the pictures in work fill the memory set aside for them",
                bound="queue_bytes",
                retry_after_s=RETRY_AFTER_S,
            )
        self._size_bytes += size_bytes
        model_metrics.queue_bytes(op, +size_bytes)
        try:
            yield
        finally:
            self._size_bytes -= size_bytes
            model_metrics.queue_bytes(op, -size_bytes)

    def _check_state(self, method: str) -> None:
        if self.state is ServerState.LOADING:
            self._metrics.rejected(method, "not_ready")
            raise NotReady("the model is still loading", retry_after_s=LOADING_RETRY_AFTER_S)
        if self.state is ServerState.DRAINING:
            self._metrics.rejected(method, "draining")
            raise Draining("this server is shutting down", retry_after_s=0.0)
