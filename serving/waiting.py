"""Items that wait for the model, or are in it: what makes the next batch, and how items fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serving.costs import CostEstimates
from serving.fair_queue import FairQueue
from serving.status import DeadlinePassed
from serving.trace import RequestTrace

# Of the expected time, what a deadline must allow. Under overload the queue grows until its last place just
# meets the deadline, so without a margin every second answer would come too late to be read.
DEADLINE_MARGIN = 1.25

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Waiting(Generic[Item, Result]):
    """One item, and the request that waits for its result."""

    item: Item
    key: Hashable
    kind: Hashable
    """Its cost class."""
    trace: RequestTrace
    future: asyncio.Future[Result]
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True, eq=False)
class Running:
    """A model call in work."""

    expected_s: float
    since: float = field(default_factory=time.monotonic)

    @property
    def rest_s(self) -> float:
        """How much longer it should take."""
        return max(0.0, self.since + self.expected_s - time.monotonic())


def take_batch(
    lane: FairQueue[Waiting[Item, Result]], costs: CostEstimates, max_batch_size: int
) -> list[Waiting[Item, Result]]:
    """The oldest item of the class whose turn it is, and those behind it with the same key."""
    batch: list[Waiting[Item, Result]] = []
    while lane and not batch:
        kind = lane.next_class()
        batch = _gather(lane, kind, costs, max_batch_size)
        lane.charge(kind, len(batch) * costs.of(kind))
    return batch


def _gather(
    lane: FairQueue[Waiting[Item, Result]], kind: Hashable, costs: CostEstimates, max_batch_size: int
) -> list[Waiting[Item, Result]]:
    """Take a batch out of one class; late and abandoned items are dropped on the way.

    It grows only as long as its tightest deadline allows.
    """
    batch: list[Waiting[Item, Result]] = []
    cost_s, tightest_s = costs.of(kind), float("inf")
    for waiting in lane.items(kind):
        if _is_lost(waiting, costs):
            lane.remove(kind, waiting)
            continue
        if batch and waiting.key != batch[0].key:
            continue
        tightest_s = min(tightest_s, waiting.trace.remaining_s)
        if len(batch) == max_batch_size or (
            batch and cost_s * (len(batch) + 1) * DEADLINE_MARGIN > tightest_s
        ):
            break
        lane.remove(kind, waiting)
        batch.append(waiting)
    return batch


def _is_lost(waiting: Waiting[Item, Result], costs: CostEstimates) -> bool:
    """True if nobody waits any longer, or the deadline falls before the result could be there."""
    if waiting.future.done():
        return True
    now = time.monotonic()
    if waiting.trace.remaining_s > costs.faded(waiting.kind, now):
        return False
    if waiting.trace.remaining_s > 0:
        costs.doubt(waiting.kind, now)
    waiting.future.set_exception(DeadlinePassed("the deadline passed while the request waited"))
    return True


def fail(items: Iterable[Waiting[Item, Result]], error: Exception) -> None:
    """Give up on those whose result is still awaited."""
    for waiting in items:
        if not waiting.future.done():
            waiting.future.set_exception(error)
