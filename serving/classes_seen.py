"""ClassesSeen: whether requests of one cost class come alone, or others beside it. Knows no queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

REMEMBERED_S = 60.0
"""How long a class that came once is counted with."""


class ClassesSeen:
    """Which classes came of late. There are few."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_seen: dict[Hashable, float] = {}

    def note(self, kind: Hashable) -> None:
        """A request of this class came."""
        self._last_seen[kind] = self._clock()

    def the_only_one(self) -> Hashable | None:
        """The class of all that came in the last minute; None if there was none, or more than one."""
        since = self._clock() - REMEMBERED_S
        recent = [kind for kind, seen in self._last_seen.items() if seen >= since]
        return recent[0] if len(recent) == 1 else None
