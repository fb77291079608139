"""MemoryBudget: the bytes of all pictures in work. Knows no RPCs, no metrics. Lives on the event loop.

    single request ── take ──> there is room, or it is refused at once
    bulk item ─── wait_for ──> waits its turn, and takes only what is left

What is left: bulk items together hold at most half of the budget, so that single requests are always left the
other half, however many bulk streams are open. An item that alone is larger than that half waits until it is
the only one. Oldest first, and nobody overtakes: a large picture is not starved by small ones behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class _Waiting:
    size_bytes: int
    turn: asyncio.Future[None]


class MemoryBudget:
    """Bytes that are set aside before a picture is decoded."""

    def __init__(self, max_size_bytes: int) -> None:
        self._max_size_bytes = max_size_bytes
        self._max_bulk_size_bytes = max_size_bytes // 2
        self._size_bytes = 0
        self._bulk_size_bytes = 0
        self._waiting: deque[_Waiting] = deque()

    def take(self, size_bytes: int) -> bool:
        """Set these bytes aside for a single request; False if they do not fit."""
        if self._size_bytes + size_bytes > self._max_size_bytes:
            return False
        self._size_bytes += size_bytes
        return True

    def give(self, size_bytes: int) -> None:
        """A single request gives back what it took."""
        self._size_bytes -= size_bytes
        self._serve_waiting()

    async def wait_for(self, size_bytes: int) -> None:
        """Set these bytes aside for a bulk item, as soon as they are left."""
        waiting = _Waiting(size_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._serve_waiting()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():
                self.give_bulk(size_bytes)  # its turn came in the same moment
            else:
                if waiting in self._waiting:  # a neighbour that gave in the same moment may have dropped it
                    self._waiting.remove(waiting)
                self._serve_waiting()
            raise

    def give_bulk(self, size_bytes: int) -> None:
        """A bulk item gives back what it waited for."""
        self._bulk_size_bytes -= size_bytes
        self.give(size_bytes)

    def _serve_waiting(self) -> None:
        while self._waiting:
            waiting = self._waiting[0]
            if waiting.turn.done():  # cancelled, and its task has not run since
                self._waiting.popleft()
                continue
            if not self._is_left(waiting.size_bytes):
                return
            self._waiting.popleft()
            self._size_bytes += waiting.size_bytes
            self._bulk_size_bytes += waiting.size_bytes
            waiting.turn.set_result(None)

    def _is_left(self, size_bytes: int) -> bool:
        if self._size_bytes + size_bytes > self._max_size_bytes:
            return False
        alone = self._bulk_size_bytes == 0
        return alone or self._bulk_size_bytes + size_bytes <= self._max_bulk_size_bytes
