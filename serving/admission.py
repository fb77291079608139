"""Who may come in: bounds on RPCs and on memory, and the count that a drain waits for.

Decides on the raw size of a request and the size of a picture in its header, before either is worked on.
Knows no protobuf and no model. Lives on the event loop, so it needs no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import Enum

from serving.memory import MemoryBudget
from serving.metrics.model import ModelMetrics
from serving.metrics.server import Metrics
from serving.metrics.sets import BULK_METHODS
from serving.status import Draining, NotReady, QueueFull
from serving.trace import RequestTrace

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

    def __init__(
        self,
        *,
        max_rpcs: int,
        max_truncates: int,
        max_bulk_streams: int,
        max_size_bytes: int,
        metrics: Metrics,
    ) -> None:
        self.draining = asyncio.Event()
        """Set once new work is refused."""
        self._state = ServerState.LOADING
        self._metrics = metrics
        # Truncate has its own room, so that it never waits behind inference nor takes its place; so have
        # bulk streams, which may be open for hours.
        self._max_rpcs = {"single": max_rpcs, "truncate": max_truncates, "bulk": max_bulk_streams}
        self._rpcs = dict.fromkeys(self._max_rpcs, 0)
        self._memory = MemoryBudget(max_size_bytes)
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def state(self) -> ServerState:
        """Where the server is in its life."""
        return self._state

    @state.setter
    def state(self, state: ServerState) -> None:
        self._state = state
        if state is ServerState.DRAINING:
            self.draining.set()

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
        self.check(method)
        room = _room(method)
        self._rpcs[room] += 1
        self._idle.clear()
        self._metrics.in_flight(method, +1)
        try:
            yield
        finally:
            self._rpcs[room] -= 1
            self._metrics.in_flight(method, -1)
            if self.in_flight == 0:
                self._idle.set()

    def check(self, method: str) -> None:
        """Whether an RPC may begin now. Raises NotReady, Draining or QueueFull."""
        self._check_state(method)
        limit = self._max_rpcs[_room(method)]
        if self._rpcs[_room(method)] >= limit:
            self._metrics.rejected(method, "concurrency")
            raise QueueFull(
                f"{limit} requests are in work already", bound="concurrency", retry_after_s=RETRY_AFTER_S
            )

    @asynccontextmanager
    async def memory(
        self, trace: RequestTrace, op: str, size_bytes: int, model_metrics: ModelMetrics
    ) -> AsyncIterator[None]:
        """Memory of one picture, from before it is decoded until it is done.

        A bulk item waits for it; a single request raises QueueFull where there is none.
        """
        if trace.is_bulk:
            trace.place = "queued"
            await self._memory.wait_for(size_bytes)
            give_back = self._memory.give_bulk
        else:
            self._take_or_refuse(trace.method, size_bytes)
            give_back = self._memory.give
        model_metrics.queue_bytes(op, +size_bytes)
        try:
            yield
        finally:
            give_back(size_bytes)
            model_metrics.queue_bytes(op, -size_bytes)

    def _take_or_refuse(self, method: str, size_bytes: int) -> None:
        if not self._memory.take(size_bytes):
            self._metrics.rejected(method, "queue_bytes")
            raise QueueFull(
                "the pictures in work fill the memory set aside for them",
                bound="queue_bytes",
                retry_after_s=RETRY_AFTER_S,
            )

    def _check_state(self, method: str) -> None:
        if self.state is ServerState.LOADING:
            self._metrics.rejected(method, "not_ready")
            raise NotReady("the model is still loading", retry_after_s=LOADING_RETRY_AFTER_S)
        if self.state is ServerState.DRAINING:
            self._metrics.rejected(method, "draining")
            raise Draining("this server is shutting down", retry_after_s=0.0)


def _room(method: str) -> str:
    if method in BULK_METHODS:
        return "bulk"
    return "truncate" if method == "Truncate" else "single"
