"""CostEstimates: what one item of each class takes, learned from what was run. Knows no queue."""

from __future__ import annotations

from collections.abc import Hashable

# Weight of the newest batch in the running mean of the time per item: about the last ten batches count.
NEWEST_WEIGHT = 0.2


class CostEstimates:
    """Running means of seconds per item. A decode with eight steps of realism costs many plain ones."""

    def __init__(self) -> None:
        self._seconds: dict[Hashable, float] = {}

    def of(self, kind: Hashable) -> float:
        """Seconds per item; of a class that never ran, the mean of the others, and 0 before anything ran."""
        known = self._seconds
        return known[kind] if kind in known else sum(known.values()) / max(1, len(known))

    def learn(self, kind: Hashable, seconds: float) -> None:
        """An item of this class took so long."""
        mean = self._seconds.get(kind, seconds)
        self._seconds[kind] = mean + NEWEST_WEIGHT * (seconds - mean)

    def fade(self, kind: Hashable) -> None:
        """An estimate that refused work must shrink, or one slow batch would refuse for ever."""
        self._seconds[kind] = self.of(kind) * (1 - NEWEST_WEIGHT)
