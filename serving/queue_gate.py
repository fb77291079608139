"""QueueGate: which single requests may wait for a model, and who makes room for whom. Runs nothing.

A request comes by up to three times: before its message is read, before its picture is decoded, and with the
decoded picture. Each time it is refused as soon as that is certain, since what follows costs more.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

from serving.classes_seen import ClassesSeen
from serving.costs import CostEstimates
from serving.fair_queue import FairQueue
from serving.metrics.server import Metrics
from serving.status import WAIT_ESTIMATE_KEY, DeadlineUnmeetable, QueueFull
from serving.waiting import DEADLINE_MARGIN, Running, Waiting, fail

Item = TypeVar("Item")
Result = TypeVar("Result")

# Bounds of the advice given to a refused client.
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 5.0


class QueueGate(Generic[Item, Result]):
    """In front of the queue of one batcher, whose state it reads: what waits, what runs, what items cost."""

    def __init__(
        self,
        queue: FairQueue[Waiting[Item, Result]],
        running: set[Running],
        costs: CostEstimates,
        *,
        max_queue_items: int,
        num_instances: int,
        metrics: Metrics,
    ) -> None:
        self._queue = queue
        self._running = running
        self._costs = costs
        self._max_queue_items = max_queue_items
        self._num_instances = num_instances
        self._metrics = metrics
        self._seen = ClassesSeen()

    def check_unread(self, method: str, remaining_s: float) -> None:
        """Whether a request of unknown content could wait, as far as can be told.

        While only one class comes, it is of that class, too, and takes nobody's place. One of another class
        may be refused here that would have found a place: the first that is let in makes its class known.
        Raises QueueFull, DeadlineUnmeetable.
        """
        kind = self._seen.the_only_one()
        if kind is not None:
            self._check_deadline(kind, method, remaining_s)
            self._check_places(kind, method)

    def check(self, kind: Hashable, method: str, remaining_s: float) -> None:
        """Whether a request of this class could wait now. Raises QueueFull, DeadlineUnmeetable."""
        self._seen.note(kind)
        self._check_deadline(kind, method, remaining_s)
        self._check_places(kind, method)

    def make_room(self, kind: Hashable, method: str, remaining_s: float) -> None:
        """Refuse somebody if the queue is full: the newest, but of the class that takes the most places.

        Raises as `check` does, if it is this one.
        """
        self.check(kind, method, remaining_s)
        longest = self._gives_way(kind)
        if len(self._queue) < self._max_queue_items or longest is None:
            return
        newest = self._queue.items(longest)[-1]
        self._queue.remove(longest, newest)
        fail([newest], self._refuse(newest.trace.method, longest))

    def expected_wait_s(self, kind: Hashable) -> float:
        """How long a new request of this class would wait.

        Classes share the model's time: until the backlog of ours is gone, each other class gets as much time
        as ours at most, or its own backlog if that is less.
        """
        if not self._queue and len(self._running) < self._num_instances:
            return 0.0
        backlogs = {one: n * self._costs.of(one) for one, n in self._queue.lengths().items()}
        ours = backlogs.get(kind, 0.0)
        ahead_s = sum(min(ours, backlog) for backlog in backlogs.values())
        return (ahead_s + sum(one.rest_s for one in self._running)) / self._num_instances

    def advice_s(self, kind: Hashable) -> float:
        """After what time to try again: when half of the queue is gone."""
        return min(_MAX_RETRY_S, max(_MIN_RETRY_S, self.expected_wait_s(kind) / 2))

    def _check_deadline(self, kind: Hashable, method: str, remaining_s: float) -> None:
        wait_s, now = self.expected_wait_s(kind), time.monotonic()
        own_s = self._costs.faded(kind, now)
        if wait_s and (wait_s + own_s) * DEADLINE_MARGIN > remaining_s:
            if own_s > remaining_s > 0:
                self._costs.doubt(kind, now)  # or a class that is never let in would never be measured again
            self._metrics.rejected(method, "deadline_unmeetable")
            raise DeadlineUnmeetable(
                "the queue is longer than the deadline allows",
                metadata={WAIT_ESTIMATE_KEY: round(1000 * wait_s)},
            )

    def _check_places(self, kind: Hashable, method: str) -> None:
        if len(self._queue) >= self._max_queue_items and self._gives_way(kind) is None:
            raise self._refuse(method, kind)

    def _gives_way(self, kind: Hashable) -> Hashable | None:
        """The class whose newest item makes room for one of this class; None if none does."""
        lengths = self._queue.lengths()
        longest = max(lengths, key=lengths.__getitem__, default=None)
        return longest if longest is not None and lengths[longest] > lengths.get(kind, 0) + 1 else None

    def _refuse(self, method: str, kind: Hashable) -> QueueFull:
        self._metrics.rejected(method, "queue_items")
        return QueueFull(
            f"{len(self._queue)} pictures wait already",
            bound="queue_items",
            retry_after_s=self.advice_s(kind),
        )
