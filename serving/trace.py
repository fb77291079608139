"""One request's clock: its deadline, where it is, and where its time went. Knows no metrics, no network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestTrace:
    """Follows one request; the only mutable object that does."""

    method: str
    deadline: float
    """On the clock of `time.monotonic`."""

    is_bulk: bool = False
    """True for an item of a bulk stream: it waits for room where a single request would be refused."""

    started: float = field(default_factory=time.monotonic)
    place: str = "parsing"
    """parsing, decoding, queued, executing or streaming: where a client that leaves finds the request."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Time per stage, added up where a stage comes more than once."""

    @property
    def remaining_s(self) -> float:
        """Time until the deadline; negative after it."""
        return self.deadline - time.monotonic()

    @property
    def total_s(self) -> float:
        """Time since the request came."""
        return time.monotonic() - self.started

    def add(self, stage: str, seconds: float) -> None:
        """Note time that was measured elsewhere."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def measure(self, stage: str, place: str) -> Iterator[None]:
        """Note how long the block takes, whether it succeeds or not."""
        self.place = place
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(stage, time.monotonic() - start)
