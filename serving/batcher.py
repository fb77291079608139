"""MicroBatcher: a bounded queue in front of a few worker threads. Knows no tokenizer, no protobuf.

    submit ──> fair queue ──> up to max_batch_size alike ──> worker thread ──> one future each
      │ full?       │ cancelled or past its deadline? dropped and counted
      └ refused

A batch is whatever waits when a worker becomes free. By default nobody waits for company, since on a CPU the
cost of a batch grows with its size; a GPU gains from `max_queue_delay_s`. All state belongs to the event
loop; only `work` runs in the threads.

Items of bulk streams stand in a fair queue of their own, which is looked at only while that of the single
requests is empty: they take the model time that those leave, and count neither against the limit of the
queue nor in its expected wait. At most one bulk batch of each instance is ever in front of a single request.
Whoever submits bulk items bounds how many there are (`serving/bulk.py`).

Batchers of several models share `turns`, a semaphore that bounds the model calls at one time: each call takes
all the threads it may. An instance asks for one turn at a time and turns are given in the order of asking, so
none starves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from serving.costs import CostEstimates
from serving.fair_queue import FairQueue
from serving.metrics.model import ModelMetrics
from serving.metrics.server import Metrics
from serving.queue_gate import QueueGate
from serving.status import DeviceMemoryFull, ModelUnloaded
from serving.trace import RequestTrace
from serving.waiting import Running, Waiting, fail, take_batch
from tokenizer.errors import DeviceMemoryExhausted

Item = TypeVar("Item")
Result = TypeVar("Result")


class MicroBatcher(Generic[Item, Result]):
    """Runs `work(key, items) -> results` on batches of items that were submitted with an equal key.

    `cost_class` maps a key to what its items have in common in cost: few values, since each has an estimate
    and a fair share of the model's time.
    """

    def __init__(
        self,
        op: str,
        work: Callable[[Hashable, list[Item]], list[Result]],
        *,
        max_batch_size: int,
        max_queue_items: int,
        metrics: Metrics,
        model_metrics: ModelMetrics,
        turns: asyncio.Semaphore | None = None,
        max_queue_delay_s: float = 0.0,
        num_instances: int = 1,
        cost_class: Callable[[Hashable], Hashable] = lambda key: key,
    ) -> None:
        self._op = op
        self._work = work
        self._max_batch_size = max_batch_size
        self._max_queue_delay_s = max_queue_delay_s
        self._num_instances = num_instances
        self._cost_class = cost_class
        self._model_metrics = model_metrics
        self._turns = turns or asyncio.Semaphore(num_instances)
        self._queue: FairQueue[Waiting[Item, Result]] = FairQueue()
        self._bulk: FairQueue[Waiting[Item, Result]] = FairQueue()
        self._reported_items = 0
        self._costs = CostEstimates()
        self._running: set[Running] = set()
        self._gate = QueueGate(
            self._queue,
            self._running,
            self._costs,
            max_queue_items=max_queue_items,
            num_instances=num_instances,
            metrics=metrics,
        )
        self._in_work: set[Waiting[Item, Result]] = set()
        self._wake = asyncio.Event()
        self._arrived = asyncio.Event()
        self._draining = False
        self._stopped = False
        self._threads = ThreadPoolExecutor(max_workers=num_instances, thread_name_prefix=f"tessera-{op}")
        self._runners: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to take batches; needs a running event loop."""
        names = (f"batcher-{self._op}-{number}" for number in range(self._num_instances))
        self._runners = [asyncio.create_task(self._run(), name=name) for name in names]

    def drain(self) -> None:
        """From now on no picture waits for company: none will come."""
        self._draining = True
        self._arrived.set()

    async def stop(self) -> None:
        """Stop at once; what waits or is in work fails with ModelUnloaded."""
        self._stopped = True
        unfinished = [*self._in_work, *self._queue.take_all(), *self._bulk.take_all()]
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
        self._runners = []
        fail(unfinished, _unloaded())
        self._report_queue()
        # A thread inside the model cannot be stopped; it ends with its batch.
        self._threads.shutdown(wait=False)

    def expected_wait_s(self, key: Hashable) -> float:
        """How long a new single request with this key would wait."""
        return self._gate.expected_wait_s(self._cost_class(key))

    async def submit(self, item: Item, key: Hashable, trace: RequestTrace) -> Result:
        """The result of this item.

        Raises DeadlinePassed, DeviceMemoryFull, ModelUnloaded, what `work` raised for it; for a single
        request QueueFull and DeadlineUnmeetable, too.
        """
        if self._stopped:
            raise _unloaded()
        kind = self._cost_class(key)
        if not trace.is_bulk:
            self._gate.make_room(kind, trace.method, trace.remaining_s)
        trace.place = "queued"
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = Waiting(item, key, kind, trace, future)
        self._lane_of(trace).append(kind, waiting)
        self._report_queue()
        self._wake.set()
        self._arrived.set()
        try:
            return await future
        except asyncio.CancelledError:
            self._forget(waiting)
            raise

    def _lane_of(self, trace: RequestTrace) -> FairQueue[Waiting[Item, Result]]:
        return self._bulk if trace.is_bulk else self._queue

    def check_room(self, key: Hashable, trace: RequestTrace) -> None:
        """Whether such an item could be submitted now; ask before making one. Raises as `submit` does."""
        if not trace.is_bulk:
            self._gate.check(self._cost_class(key), trace.method, trace.remaining_s)

    def check_room_unread(self, method: str, remaining_s: float) -> None:
        """The same for a single request whose key is not known yet, as far as can be told."""
        self._gate.check_unread(method, remaining_s)

    def _forget(self, waiting: Waiting[Item, Result]) -> None:
        """A request was cancelled: free its place, or count its result if that had just come."""
        if self._lane_of(waiting.trace).remove(waiting.kind, waiting):
            self._report_queue()
        elif not waiting.future.cancelled() and waiting.future.done() and not waiting.future.exception():
            self._model_metrics.wasted(self._op, waiting.trace.model_share_s)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            trigger = await self._wait_for_company()
            async with self._turns:
                batch = self._take()
                if batch:
                    await self._execute(batch, "full" if len(batch) == self._max_batch_size else trigger)
                del batch  # or the last pictures would stay until the next ones come
            if not self._queue and not self._bulk:
                self._wake.clear()

    async def _wait_for_company(self) -> str:
        """Wait until a batch is full or its oldest item may wait no longer; what ended the wait."""
        trigger = "idle"
        while (patience_s := self._patience_s()) > 0:
            if self._draining:
                return "drain"
            trigger = "delay"
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._arrived.wait()
        return trigger

    def _patience_s(self) -> float:
        """How much longer the next batch may wait for company."""
        if self._max_queue_delay_s == 0 or not self._queue:
            return 0.0
        kind = self._queue.next_class()
        items = self._queue.items(kind)
        head = items[0]
        if sum(one.key == head.key for one in items) >= self._max_batch_size:
            return 0.0
        delay_s = head.since + self._max_queue_delay_s - time.monotonic()
        # Half of what its deadline leaves must stay for the call itself and for estimates that are off.
        return min(delay_s, head.trace.remaining_s / 2 - self._costs.of(kind))

    def _take(self) -> list[Waiting[Item, Result]]:
        """The next batch; of bulk items only while no single request waits."""
        lanes = (self._queue, self._bulk)
        batches = (take_batch(lane, self._costs, self._max_batch_size) for lane in lanes)
        batch = next(filter(None, batches), [])
        self._report_queue()
        return batch

    async def _execute(self, batch: list[Waiting[Item, Result]], trigger: str) -> None:
        self._note_wait(batch)
        self._in_work.update(batch)
        try:
            error = await self._call(batch, trigger)
            if isinstance(error, DeviceMemoryFull):
                await self._call_halves(batch)
            elif error is not None and len(batch) > 1:
                await self._call_each(batch)
            elif error is not None:
                fail(batch, error)
        finally:
            self._in_work.difference_update(batch)

    def _note_wait(self, batch: list[Waiting[Item, Result]]) -> None:
        start = time.monotonic()
        for waiting in batch:
            waited = start - waiting.since
            waiting.trace.add("queue", waited)
            waiting.trace.place = "executing"
            if not waiting.trace.is_bulk:
                # What a single request meets: alerts and autoscaling follow it.
                self._model_metrics.waited(self._op, waited)

    async def _call_halves(self, batch: list[Waiting[Item, Result]]) -> None:
        """After memory ran out: half as much may fit. Once only; then the clients are told to come back."""
        middle = (len(batch) + 1) // 2
        for half in (batch[:middle], batch[middle:]):
            error = await self._call(half, "retry")
            if error is not None:
                fail(half, error)

    async def _call_each(self, batch: list[Waiting[Item, Result]]) -> None:
        """After a batch failed: an item that breaks the model must not take its neighbours with it."""
        for waiting in batch:
            error = await self._call([waiting], "retry")
            if error is not None:
                fail([waiting], error)

    async def _call(self, batch: list[Waiting[Item, Result]], trigger: str) -> Exception | None:
        """Run what somebody still waits for, and hand out the results; what went wrong, if anything."""
        batch = [waiting for waiting in batch if not waiting.future.done()]
        if not batch:
            return None
        self._model_metrics.batch(self._op, len(batch), trigger)
        running = Running(len(batch) * self._costs.of(batch[0].kind))
        self._running.add(running)
        loop = asyncio.get_running_loop()
        items = [waiting.item for waiting in batch]
        try:
            results = await loop.run_in_executor(self._threads, self._work, batch[0].key, items)
        except DeviceMemoryExhausted:
            # A new error: the old one's traceback would keep the buffers of the failed run.
            text = "the device has no memory for this now"
            return DeviceMemoryFull(text, retry_after_s=self._gate.advice_s(batch[0].kind))
        except Exception as error:
            return error
        finally:
            seconds = time.monotonic() - running.since
            self._model_metrics.model_call(self._op, seconds)
            self._running.discard(running)
        try:
            self._deliver(batch, results, seconds)
        except Exception as error:  # a model that gives too few results must not end the worker's loop
            return error
        return None

    def _deliver(self, batch: list[Waiting[Item, Result]], results: list[Result], seconds: float) -> None:
        assert len(results) == len(batch), "one result per item"
        per_item = seconds / len(batch)
        self._costs.learn(batch[0].kind, per_item)
        for waiting, result in zip(batch, results, strict=True):
            if waiting.future.done():
                self._model_metrics.wasted(self._op, per_item)
                continue
            waiting.trace.add("inference", seconds, batch_size=len(batch))
            waiting.trace.model_share_s = per_item
            waiting.future.set_result(result)

    def _report_queue(self) -> None:
        self._model_metrics.queue_items(self._op, len(self._queue) - self._reported_items)
        self._reported_items = len(self._queue)


def _unloaded() -> ModelUnloaded:
    return ModelUnloaded("the model left the service while the request waited", retry_after_s=0.0)
