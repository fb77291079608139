"""CostEstimates: what one item of each class takes, learned from what was run. Knows no queue."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Hashable

REMEMBERED = 9
"""Batches of each class. Their median counts: one that stalled must not refuse others."""
# An estimate that refuses work must fade, or one slow beginning would refuse for ever. By time, not by
# refusal: of a flood of calls that cannot be served in time, every few would else be run for nobody.
FADE_HALF_LIFE_S = 2.0


class CostEstimates:
    """Recent seconds per item. A decode with eight steps of realism costs many plain ones."""

    def __init__(self) -> None:
        self._measured: dict[Hashable, deque[float]] = {}
        self._seconds: dict[Hashable, float] = {}
        self._doubted_since: dict[Hashable, float] = {}

    def of(self, kind: Hashable) -> float:
        """Seconds per item; of a class that never ran, the mean of the others, and 0 before anything ran."""
        known = self._seconds
        return known[kind] if kind in known else sum(known.values()) / max(1, len(known))

    def faded(self, kind: Hashable, now: float) -> float:
        """The same, less the longer it has refused work without being measured anew."""
        doubted_s = now - self._doubted_since.get(kind, now)
        return self.of(kind) * math.exp2(-doubted_s / FADE_HALF_LIFE_S)

    def learn(self, kind: Hashable, seconds: float) -> None:
        """An item of this class took so long. What was in doubt until now is forgotten."""
        measured = self._measured.setdefault(kind, deque(maxlen=REMEMBERED))
        if self._doubted_since.pop(kind, None) is not None:
            measured.clear()
        measured.append(seconds)
        self._seconds[kind] = statistics.median(measured)

    def doubt(self, kind: Hashable, now: float) -> None:
        """The estimate has refused work that it may be wrong about."""
        self._doubted_since.setdefault(kind, now)
