"""MicroBatcher: a bounded queue in front of one worker thread. Knows no tokenizer, no protobuf.

    submit ──> queue ──> take up to max_batch_size alike ──> worker thread ──> one future each
      │ full?    │ cancelled or past its deadline? dropped and counted
      └ refused

A batch is whatever waits when the worker becomes free: nobody waits for company, since on a CPU the cost
of a batch grows with its size.

Items of bulk streams stand in a lane of their own, which is looked at only while the queue is empty: they
take the model time that single requests leave, and count neither against the limit of the queue nor in its
expected wait. At most the one bulk batch in work is ever in front of a single request. Whoever submits bulk
items bounds how many there are (`serving/bulk.py`).

All state belongs to the event loop; only `work` runs in the thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serving.metrics.server import Metrics
from serving.status import DeadlinePassed, DeadlineUnmeetable, QueueFull
from serving.trace import RequestTrace

Item = TypeVar("Item")
Result = TypeVar("Result")

# Weight of the newest batch in the running mean of the time per item: about the last ten batches count.
_NEWEST_WEIGHT = 0.2
# Bounds of the advice given to a refused client.
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 5.0


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    key: Hashable
    trace: RequestTrace
    future: asyncio.Future[Result]
    since: float = field(default_factory=time.monotonic)


class MicroBatcher(Generic[Item, Result]):
    """Runs `work(key, items) -> results` on batches of items that were submitted with an equal key."""

    def __init__(
        self,
        op: str,
        work: Callable[[Hashable, list[Item]], list[Result]],
        *,
        max_batch_size: int,
        max_queue_items: int,
        metrics: Metrics,
    ) -> None:
        self._op = op
        self._work = work
        self._max_batch_size = max_batch_size
        self._max_queue_items = max_queue_items
        self._metrics = metrics
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._bulk: deque[_Waiting[Item, Result]] = deque()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"tessera-{op}")
        self._runner: asyncio.Task[None] | None = None
        self._seconds_per_item = 0.0
        self._busy_items = 0

    def start(self) -> None:
        """Begin to take batches; needs a running event loop."""
        self._runner = asyncio.create_task(self._run(), name=f"batcher-{self._op}")

    async def stop(self) -> None:
        """Stop after the batch in work; what still waits is cancelled."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        for lane in (self._queue, self._bulk):
            for waiting in lane:
                waiting.future.cancel()
            lane.clear()
        # A thread inside the model cannot be stopped; it ends with its batch.
        self._thread.shutdown(wait=False)

    @property
    def expected_wait_s(self) -> float:
        """How long a new single request would wait, from the recent time per item."""
        return (len(self._queue) + self._busy_items) * self._seconds_per_item

    async def submit(self, item: Item, key: Hashable, trace: RequestTrace) -> Result:
        """The result of this item. Raises what `work` raised for it, or DeadlineUnmeetable; a single request
        is also refused with QueueFull.
        """
        if not trace.is_bulk:
            self._check_room(trace)
        trace.place = "queued"
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(item, key, trace, future)
        (self._bulk if trace.is_bulk else self._queue).append(waiting)
        self._report_queue()
        self._wake.set()
        try:
            return await future
        except asyncio.CancelledError:
            self._forget(waiting)
            raise

    def _check_room(self, trace: RequestTrace) -> None:
        if len(self._queue) >= self._max_queue_items:
            self._metrics.rejected(trace.method, "queue_items")
            raise QueueFull(
                f"{len(self._queue)} pictures wait already",
                bound="queue_items",
                retry_after_s=min(_MAX_RETRY_S, max(_MIN_RETRY_S, self.expected_wait_s / 2)),
            )
        if self.expected_wait_s > trace.remaining_s:
            self._metrics.rejected(trace.method, "deadline_unmeetable")
            raise DeadlineUnmeetable(
                "the queue is longer than the deadline allows",
                metadata={"queue_wait_estimate_ms": round(1000 * self.expected_wait_s)},
            )

    def _forget(self, waiting: _Waiting[Item, Result]) -> None:
        """Free the place of a request that was cancelled while it waited."""
        for lane in (self._queue, self._bulk):
            if waiting in lane:
                lane.remove(waiting)
        self._report_queue()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._take(self._queue) or self._take(self._bulk)
            if batch:
                await self._execute(batch)
            if not self._queue and not self._bulk:
                self._wake.clear()

    def _take(self, lane: deque[_Waiting[Item, Result]]) -> list[_Waiting[Item, Result]]:
        """The oldest item and those behind it with the same key; late and abandoned ones are dropped."""
        batch: list[_Waiting[Item, Result]] = []
        kept: deque[_Waiting[Item, Result]] = deque()
        while lane and len(batch) < self._max_batch_size:
            waiting = lane.popleft()
            if self._is_lost(waiting):
                continue
            if not batch or waiting.key == batch[0].key:
                batch.append(waiting)
            else:
                kept.append(waiting)
        lane.extendleft(reversed(kept))
        self._report_queue()
        return batch

    def _is_lost(self, waiting: _Waiting[Item, Result]) -> bool:
        """True if nobody waits any longer, or the deadline falls before the result could be there."""
        if waiting.future.done():
            return True
        if waiting.trace.remaining_s > self._seconds_per_item:
            return False
        if waiting.trace.remaining_s > 0:
            # An estimate that refuses work must fade, or one slow batch would refuse for ever.
            self._seconds_per_item *= 1 - _NEWEST_WEIGHT
        waiting.future.set_exception(DeadlinePassed("the deadline passed while the request waited"))
        return True

    async def _execute(self, batch: list[_Waiting[Item, Result]]) -> None:
        trigger = "full" if len(batch) == self._max_batch_size else "idle"
        start = time.monotonic()
        for waiting in batch:
            waited = start - waiting.since
            waiting.trace.add("queue", waited)
            waiting.trace.place = "executing"
            if not waiting.trace.is_bulk:
                # What a single request meets: alerts and autoscaling follow it.
                self._metrics.waited(self._op, waited)
        try:
            await self._call(batch, trigger)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            await self._call_one_by_one(batch)

    async def _call_one_by_one(self, batch: list[_Waiting[Item, Result]]) -> None:
        """After a batch failed: an item that breaks the model must not take its neighbours with it."""
        for waiting in batch:
            if waiting.future.done():
                continue
            try:
                await self._call([waiting], "retry")
            except Exception as error:
                _fail(waiting, error)

    async def _call(self, batch: list[_Waiting[Item, Result]], trigger: str) -> None:
        self._metrics.batch(self._op, len(batch), trigger)
        self._busy_items = len(batch)
        start = time.monotonic()
        loop = asyncio.get_running_loop()
        items = [waiting.item for waiting in batch]
        try:
            results = await loop.run_in_executor(self._thread, self._work, batch[0].key, items)
            self._deliver(batch, results, time.monotonic() - start)
        finally:
            self._busy_items = 0

    def _deliver(self, batch: list[_Waiting[Item, Result]], results: list[Result], seconds: float) -> None:
        assert len(results) == len(batch), "one result per item"
        per_item = seconds / len(batch)
        mean = self._seconds_per_item or per_item
        self._seconds_per_item = mean + _NEWEST_WEIGHT * (per_item - mean)
        for waiting, result in zip(batch, results, strict=True):
            if waiting.future.done():
                self._metrics.wasted(self._op, per_item)
                continue
            waiting.trace.add("inference", seconds)
            waiting.future.set_result(result)

    def _report_queue(self) -> None:
        self._metrics.queue_items(self._op, len(self._queue))


def _fail(waiting: _Waiting[Item, Result], error: Exception) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)
