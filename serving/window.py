"""Window: the items of one bulk stream that were read and are not answered yet. Knows no work, no network.

    read ──> add ──> settle (its result is there) ──> remove (its result is written)

Bounds the items, and the bytes of requests and results that it holds, so that a client that sends much and
reads nothing costs a known amount of memory: nothing more is read while the window has no room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from serving.received import Received
from serving.trace import RequestTrace


@dataclass(slots=True, eq=False)
class Item:
    """One request of a stream, from when it was read until its result is written."""

    item_id: int
    request: Received
    size_bytes: int
    """Of the request, then of the result."""

    trace: RequestTrace | None = None
    """Set once the item is in work; before, it waits for its turn."""

    is_late: bool = False
    """Its own time ran out. That is counted already; its error may still wait to be written."""

    result: asyncio.Task[Any] | None = field(default=None, repr=False)


class Window:
    """The oldest item first."""

    def __init__(self, *, max_items: int, max_size_bytes: int) -> None:
        self._max_items = max_items
        self._max_size_bytes = max_size_bytes
        self._items: dict[Item, None] = {}
        self._size_bytes = 0
        self._settled_size_bytes = 0
        self._changed = asyncio.Event()
        self._empty_since = time.monotonic()

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def empty_s(self) -> float:
        """How long nothing has been in work; 0 while something is."""
        return 0.0 if self._items else time.monotonic() - self._empty_since

    async def wait_for_room(self) -> None:
        """Returns once a further item may be read."""
        while len(self._items) >= self._max_items or self._size_bytes >= self._max_size_bytes:
            self._changed.clear()
            await self._changed.wait()

    async def wait_to_start(self, item: Item) -> None:
        """Returns once this item may be worked on: results that nobody reads must not pile up.

        A small request may have a large result (a picture). The oldest item never waits.
        """
        while self._settled_size_bytes >= self._max_size_bytes and next(iter(self._items)) is not item:
            self._changed.clear()
            await self._changed.wait()

    def add(self, item: Item) -> None:
        """It was read."""
        self._items[item] = None
        self._size_bytes += item.size_bytes

    def settle(self, item: Item, result_size_bytes: int) -> None:
        """Its result is there, and takes the place of its request."""
        self._size_bytes += result_size_bytes - item.size_bytes
        self._settled_size_bytes += result_size_bytes
        item.size_bytes = result_size_bytes
        item.request.take()  # where its time ran out before anybody did
        self._changed.set()

    def remove(self, item: Item) -> None:
        """Its result is written."""
        del self._items[item]
        self._size_bytes -= item.size_bytes
        self._settled_size_bytes -= item.size_bytes
        self._empty_since = time.monotonic()
        self._changed.set()
