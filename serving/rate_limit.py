"""What one key may spend: pictures and megapixels per second, with a burst. Knows neither keys nor RPCs.

A bucket fills at its rate up to its burst. What costs more than a full bucket holds is let in once the bucket
is full, and leaves it in debt: so nothing is refused for ever, and the rate holds on average all the same.

All on the event loop, so without locks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from serving.status import Draining, NotReady, QueueFull, RateLimited

_PX_PER_MEGAPIXEL = 1_000_000


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Limits of one key; None is no limit. `burst_s`: how many seconds' worth may be spent at once."""

    pictures_per_s: float | None
    megapixels_per_s: float | None
    burst_s: float


class TokenBucket:
    """`capacity` tokens at most, refilled at `rate_per_s`."""

    def __init__(self, rate_per_s: float, capacity: float, clock: Callable[[], float]) -> None:
        self._rate_per_s = rate_per_s
        self._capacity = capacity
        self._clock = clock
        self._level = capacity
        self._seen_at = clock()

    def wait_s(self, cost: float) -> float:
        """Time until so many tokens may be taken; 0 if they may be taken now."""
        self._refill()
        return max(0.0, (min(cost, self._capacity) - self._level) / self._rate_per_s)

    def take(self, cost: float) -> None:
        """Take them, into debt if need be."""
        self._refill()
        self._level -= cost

    def give_back(self, tokens: float) -> None:
        """What was taken for nothing."""
        self._refill()
        self._level = min(self._capacity, self._level + tokens)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._seen_at) * self._rate_per_s)
        self._seen_at = now


class KeyBudget:
    """The buckets of one key."""

    def __init__(self, limits: RateLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._pictures = self._bucket(limits.pictures_per_s, 1.0, clock)
        self._megapixels = self._bucket(limits.megapixels_per_s, 0.0, clock)

    def _bucket(
        self, rate_per_s: float | None, least: float, clock: Callable[[], float]
    ) -> TokenBucket | None:
        if rate_per_s is None:
            return None
        return TokenBucket(rate_per_s, max(least, rate_per_s * self.limits.burst_s), clock)

    def spend(self, pictures: float, megapixels: float, *, on_credit: bool = False) -> None:
        """Take both or neither. Raises RateLimited, unless it may be taken on credit."""
        costs = (("pictures", self._pictures, pictures), ("megapixels", self._megapixels, megapixels))
        wanted = [(what, bucket, cost) for what, bucket, cost in costs if bucket is not None and cost > 0]
        waits = [(bucket.wait_s(cost), what) for what, bucket, cost in wanted]
        longest_s, what = max(waits, default=(0.0, ""))
        if longest_s > 0 and not on_credit:
            raise RateLimited(f"this key has spent its {what} for now", quota=what, retry_after_s=longest_s)
        for _, bucket, cost in wanted:
            bucket.take(cost)

    def give_back_picture(self) -> None:
        """One that was paid for, and not begun."""
        if self._pictures is not None:
            self._pictures.give_back(1)


class Allowance:
    """What one RPC spends of the budget of its key.

    The first picture is paid for when the RPC comes, and given back if admission sheds it; its megapixels,
    and all of what follows, once the size is known. Each item of a bulk RPC may be refused; further previews
    of one stream are booked on credit, so that no stream breaks in the middle. `budget` is asked each time:
    a change of the key's limits holds for streams that are open, too.
    """

    def __init__(
        self,
        method: str,
        budget: Callable[[], KeyBudget],
        *,
        is_bulk: bool,
        on_refusal: Callable[[str], None],
    ) -> None:
        self._method = method
        self._budget = budget
        self._is_bulk = is_bulk
        self._on_refusal = on_refusal
        self._is_first = True

    def enter(self) -> None:
        """The RPC came. Raises RateLimited."""
        if not self._is_bulk:
            self._spend(1, 0)

    def give_back(self) -> None:
        """The RPC was shed: its picture is free, unless work on it has begun."""
        if not self._is_bulk and self._is_first:
            self._budget().give_back_picture()

    def picture(self, area_px: int) -> None:
        """A picture of this size is about to be worked on. Raises RateLimited."""
        megapixels = area_px / _PX_PER_MEGAPIXEL
        if self._is_bulk:
            self._spend(1, megapixels)
        elif self._is_first:
            self._is_first = False
            self._spend(0, megapixels)
        else:
            self._budget().spend(1, megapixels, on_credit=True)

    def _spend(self, pictures: int, megapixels: float) -> None:
        try:
            self._budget().spend(pictures, megapixels)
        except RateLimited:
            self._on_refusal(self._method)
            raise


# Of the RPC whose task this is; tasks that it starts inherit it, so bulk items need no argument for it.
_current: ContextVar[Allowance | None] = ContextVar("tessera_allowance", default=None)
_limits: ContextVar[RateLimits | None] = ContextVar("tessera_rate_limits", default=None)


def begin(allowance: Allowance | None, limits: RateLimits | None = None) -> None:
    """What follows in this task is paid from this allowance (None: from none), by a key with these limits."""
    _current.set(allowance)
    _limits.set(limits)


def limits_of_caller() -> RateLimits | None:
    """What the key of this RPC may spend; None without keys."""
    return _limits.get()


def spend_picture(area_px: int) -> None:
    """Pay for one picture before it is decoded. Free without keys. Raises RateLimited."""
    if (allowance := _current.get()) is not None:
        allowance.picture(area_px)


@contextmanager
def unpaid_if_shed() -> Iterator[None]:
    """An RPC that ends for want of room, with nothing done for it, has spent nothing.

    Paid all the same at first: so a key has never more RPCs on the way than pictures left. And whatever its
    caller caused (bytes that are no message, a deadline that cannot be met) stays paid: it would be free
    work without end.
    """
    try:
        yield
    except (QueueFull, NotReady, Draining):
        if (allowance := _current.get()) is not None:
            allowance.give_back()
        raise
