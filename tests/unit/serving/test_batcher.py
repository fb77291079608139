"""MicroBatcher by itself: order, bounds, deadlines, failures."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from serving.batcher import MicroBatcher
from serving.metrics.server import Metrics
from serving.status import DeadlinePassed, DeadlineUnmeetable, ModelUnloaded, QueueFull
from serving.trace import RequestTrace


def trace(seconds: float = 30) -> RequestTrace:
    return RequestTrace("Encode", time.monotonic() + seconds)


class Bench:
    """A batcher over a function that doubles numbers, waits at a gate, and breaks at 13."""

    def __init__(self, watch: list[Bench] | None = None, **limits) -> None:
        self.watch = watch
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []
        self.metrics = metrics = Metrics(())
        self.batcher: MicroBatcher[int, int] = MicroBatcher(
            "encode",
            self._double,
            metrics=metrics,
            model_metrics=metrics.of_model("fake"),
            **{"max_batch_size": 4, "max_queue_items": 8} | limits,
        )

    def _double(self, _key, items: list[int]) -> list[int]:
        self.batches.append(list(items))
        if self.watch is not None:
            self.watch.append(self)
        assert self.gate.wait(20)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]

    async def hold_worker(self) -> asyncio.Task:
        """Returns once the worker is inside a batch that waits at the gate."""
        self.gate.clear()
        task = asyncio.create_task(self.batcher.submit(0, None, trace()))
        while not self.batches:
            await asyncio.sleep(0.001)
        return task

    def submit(self, item: int, seconds: float = 30, key=None) -> asyncio.Task:
        return asyncio.create_task(self.batcher.submit(item, key, trace(seconds)))


@pytest.fixture
async def bench():
    bench = Bench()
    bench.batcher.start()
    yield bench
    bench.gate.set()
    await bench.batcher.stop()


async def test_each_item_gets_its_own_result(bench):
    results = await asyncio.gather(*(bench.submit(item) for item in range(8)))
    assert results == [2 * item for item in range(8)]


async def test_items_are_taken_in_order_and_only_with_their_like(bench):
    held = await bench.hold_worker()
    tasks = [bench.submit(item, key=key) for item, key in [(1, "a"), (2, "b"), (3, "a"), (4, "b")]]
    await asyncio.sleep(0)
    bench.gate.set()
    await asyncio.gather(held, *tasks)
    assert bench.batches == [[0], [1, 3], [2, 4]]


async def test_a_full_queue_refuses_the_newest(bench):
    held = await bench.hold_worker()
    waiting = [bench.submit(item) for item in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as caught:
        await bench.submit(99)
    assert caught.value.retry_after_s > 0
    bench.gate.set()
    await asyncio.gather(held, *waiting)
    assert all(99 not in batch for batch in bench.batches)


async def test_late_work_is_dropped_and_never_run(bench):
    held = await bench.hold_worker()
    late, fine = bench.submit(1, seconds=0.01), bench.submit(2)
    await asyncio.sleep(0.05)
    bench.gate.set()
    with pytest.raises(DeadlinePassed):
        await late
    assert await fine == 4
    await held
    assert bench.batches == [[0], [2]]


async def test_a_deadline_that_the_queue_cannot_meet_is_refused_at_once(bench):
    bench.batcher._costs.learn(None, 1.0)
    held = await bench.hold_worker()
    with pytest.raises(DeadlineUnmeetable):
        await bench.submit(1, seconds=0.5)
    bench.gate.set()
    await held


async def test_what_is_let_in_has_time_for_its_own_turn_and_some_to_spare(bench):
    bench.batcher._costs.learn(None, 1.0)
    held = await bench.hold_worker()
    # One item in work and the new one take two seconds; two and a half are asked for.
    with pytest.raises(DeadlineUnmeetable):
        await bench.submit(1, seconds=2.2)
    later = bench.submit(1, seconds=30)
    bench.gate.set()
    await held
    assert await later == 2


async def test_one_slow_batch_does_not_refuse_short_deadlines_for_ever(bench, monkeypatch):
    monkeypatch.setattr("serving.costs.FADE_HALF_LIFE_S", 0.01)
    bench.batcher._costs.learn(None, 60.0)
    for _ in range(2000):
        try:
            assert await bench.submit(1, seconds=1.0) == 2
            break
        except DeadlinePassed:
            await asyncio.sleep(0.001)
    # One answer is news enough: the next one is not refused again.
    assert await bench.submit(2, seconds=1.0) == 4


async def test_a_flood_of_deadlines_that_cannot_be_met_does_not_make_the_model_work_for_nobody(bench):
    bench.batcher._costs.learn(None, 60.0)
    for _ in range(200):
        with pytest.raises(DeadlinePassed):
            await bench.submit(1, seconds=20.0)
    assert bench.batches == []


async def test_a_bad_item_fails_alone(bench):
    held = await bench.hold_worker()
    tasks = [bench.submit(item) for item in (1, 13, 2)]
    await asyncio.sleep(0)
    bench.gate.set()
    results = await asyncio.gather(held, *tasks, return_exceptions=True)
    assert [results[1], results[3]] == [2, 4]
    assert isinstance(results[2], ValueError)


async def test_stopping_ends_what_waits(bench):
    held = await bench.hold_worker()
    waiting, waiting_bulk = bench.submit(1), bulk(bench, 3)
    await asyncio.sleep(0)
    stopping = asyncio.create_task(bench.batcher.stop())
    bench.gate.set()
    await stopping
    for unfinished in (waiting, waiting_bulk, held, bench.submit(2)):
        with pytest.raises(ModelUnloaded):
            await unfinished


def bulk(bench: Bench, item: int, seconds: float = 30, key=None) -> asyncio.Task:
    one = RequestTrace("EncodeMany", time.monotonic() + seconds, is_bulk=True)
    return asyncio.create_task(bench.batcher.submit(item, key, one))


async def test_single_requests_overtake_all_bulk_items(bench):
    held = await bench.hold_worker()
    tasks = [bulk(bench, item) for item in range(1, 7)]
    await asyncio.sleep(0)
    tasks += [bench.submit(item) for item in (10, 11)]
    await asyncio.sleep(0)
    bench.gate.set()
    await asyncio.gather(held, *tasks)
    assert bench.batches == [[0], [10, 11], [1, 2, 3, 4], [5, 6]]


async def test_bulk_items_take_no_place_in_the_queue_and_are_not_refused_for_a_full_one(bench):
    held = await bench.hold_worker()
    tasks = [bulk(bench, item) for item in range(20, 40)]
    await asyncio.sleep(0)
    assert bench.batcher.expected_wait_s(None) == 0
    tasks += [bench.submit(item) for item in range(50, 58)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await bench.submit(99)
    tasks.append(bulk(bench, 40))
    bench.gate.set()
    await asyncio.gather(held, *tasks)


async def test_a_bulk_item_that_is_cancelled_or_late_is_never_run(bench):
    held = await bench.hold_worker()
    gone, late, good = bulk(bench, 1), bulk(bench, 2, seconds=0.01), bulk(bench, 3)
    await asyncio.sleep(0.02)
    gone.cancel()
    bench.gate.set()
    assert await good == 6
    with pytest.raises(DeadlinePassed):
        await late
    await held
    assert bench.batches == [[0], [3]]


async def test_batchers_that_share_a_turn_never_run_at_once_and_none_starves():
    turns, running = asyncio.Semaphore(1), []
    batchers = [Bench(turns=turns, max_queue_items=64, watch=running) for _ in range(3)]
    for each in batchers:
        each.batcher.start()
    tasks = [each.submit(item) for item in range(12) for each in batchers]
    assert await asyncio.gather(*tasks) == [2 * item for item in range(12) for _ in batchers]
    # Three batches of each: had one kept the turn, its batches would come together.
    assert [batchers.index(each) for each in running] == [0, 1, 2] * 3
    assert not turns.locked()
    for each in batchers:
        await each.batcher.stop()


async def test_a_class_that_is_never_let_in_is_tried_again_after_a_slow_beginning(bench, monkeypatch):
    monkeypatch.setattr("serving.costs.FADE_HALF_LIFE_S", 0.01)
    bench.batcher._costs.learn("slow once", 60.0)
    bench.batcher._costs.learn(None, 1.0)
    held = await bench.hold_worker()
    with pytest.raises(DeadlineUnmeetable):
        await bench.submit(1, seconds=5.0, key="slow once")
    await asyncio.sleep(0.2)  # twenty half-lives
    tried = bench.submit(1, seconds=5.0, key="slow once")
    await asyncio.sleep(0)
    bench.gate.set()
    assert await tried == 2
    await held
