"""FairQueue: what waits for one model, in classes that share its time. Knows no clock, no asyncio.

Within a class the oldest comes first. Between classes, the one that was charged the least time since it
began to wait (start-time fair queueing, Goyal et al. 1996): a flood in one class delays another by the batch
in work, not by the flood.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items by class. Its caller says what a class is, and what serving it cost."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[tuple[int, Item]]] = {}
        self._charged_s: dict[Hashable, float] = {}
        # What the class chosen last had been charged: who comes now starts there, without credit for idling.
        self._clock_s = 0.0
        self._tickets = count()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def lengths(self) -> dict[Hashable, int]:
        """How many wait, of each class that waits."""
        return {kind: len(items) for kind, items in self._waiting.items()}

    def append(self, kind: Hashable, item: Item) -> None:
        """Wait behind all others of this class."""
        if kind not in self._waiting:
            self._forget_the_idle()
            self._charged_s[kind] = max(self._charged_s.get(kind, 0.0), self._clock_s)
            self._waiting[kind] = deque()
        self._waiting[kind].append((next(self._tickets), item))

    def remove(self, kind: Hashable, item: Item) -> bool:
        """Stop waiting; False if it did not wait."""
        items = self._waiting.get(kind, deque())
        found = next((entry for entry in items if entry[1] is item), None)
        if found is None:
            return False
        items.remove(found)
        if not items:
            del self._waiting[kind]
        return True

    def take_all(self) -> list[Item]:
        """All of every class; nothing waits any longer."""
        waiting = [item for entries in self._waiting.values() for _, item in entries]
        self._waiting.clear()
        return waiting

    def next_class(self) -> Hashable:
        """The class whose turn it is. Something must wait."""
        return min(self._waiting, key=lambda kind: (self._charged_s[kind], self._waiting[kind][0][0]))

    def items(self, kind: Hashable) -> list[Item]:
        """All of this class, oldest first."""
        return [item for _, item in self._waiting.get(kind, ())]

    def charge(self, kind: Hashable, seconds: float) -> None:
        """This class was chosen, and its turn takes so long."""
        before = self._charged_s.get(kind, self._clock_s)
        self._clock_s = max(self._clock_s, before)
        self._charged_s[kind] = before + seconds

    def _forget_the_idle(self) -> None:
        """A class that the clock has overtaken while it did not wait starts like a new one."""
        self._charged_s = {
            kind: seconds
            for kind, seconds in self._charged_s.items()
            if kind in self._waiting or seconds > self._clock_s
        }
