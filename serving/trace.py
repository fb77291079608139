"""One request's clock: its deadline, where it is, and where its time went. Knows no metrics, no network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

Fact = str | int


class Follower(Protocol):
    """Is told, while an RPC is in work, what becomes of its requests."""

    def stage(self, stage: str, seconds: float, **facts: Fact) -> None:
        """This stage has just ended."""

    def note(self, **facts: Fact) -> None:
        """Something became known, such as the number of tokens."""


# Set by whoever surrounds the RPC, so that handlers need not pass it on; tasks that they start inherit it.
followers: ContextVar[tuple[Follower, ...]] = ContextVar("followers", default=())


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

    model_share_s: float = 0.0
    """This request's share of the time of the last model call that worked for it."""

    followers: tuple[Follower, ...] = field(default_factory=followers.get)

    @property
    def remaining_s(self) -> float:
        """Time until the deadline; negative after it."""
        return self.deadline - time.monotonic()

    @property
    def total_s(self) -> float:
        """Time since the request came."""
        return time.monotonic() - self.started

    def add(self, stage: str, seconds: float, **facts: Fact) -> None:
        """Note time that was measured elsewhere, and has just ended."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        for follower in self.followers:
            follower.stage(stage, seconds, **facts)

    def note(self, **facts: Fact) -> None:
        """Tell the followers what became known."""
        for follower in self.followers:
            follower.note(**facts)

    @contextmanager
    def measure(self, stage: str, place: str) -> Iterator[None]:
        """Note how long the block takes, whether it succeeds or not."""
        self.place = place
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(stage, time.monotonic() - start)
