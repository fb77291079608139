"""MicroBatcher shared by unlike work: fairness, waits, company, several instances, memory that runs out."""

from __future__ import annotations

import asyncio
import threading

import pytest
from test_batcher import Bench, bulk

from serving.status import DeadlinePassed, DeviceMemoryFull, ModelUnloaded, QueueFull
from tokenizer.errors import DeviceMemoryExhausted


@pytest.fixture
async def start():
    """Makes running batchers; their gates open and they stop at the end."""
    made: list[Bench] = []

    def make(**settings) -> Bench:
        made.append(Bench(**settings))
        made[-1].batcher.start()
        return made[-1]

    yield make
    for bench in made:
        bench.gate.set()
        await bench.batcher.stop()


def triggers(bench: Bench) -> dict[str, float]:
    """How many batches each trigger has sent off."""
    text = bench.metrics.exposition()[1].decode()
    start = 'tessera_batches_total{model="fake",op="encode",trigger="'
    lines = (line.removeprefix(start) for line in text.splitlines() if line.startswith(start))
    counts = {line.split('"')[0]: float(line.split()[-1]) for line in lines}
    return {trigger: count for trigger, count in counts.items() if count}


async def test_a_flood_of_one_key_delays_another_by_the_batch_in_work(start):
    bench = start(max_batch_size=2, max_queue_items=40)
    bench.batcher._costs.learn("flood", 0.01)
    held = await bench.hold_worker()
    flood = [bench.submit(100 + item, key="flood") for item in range(20)]
    await asyncio.sleep(0)
    bench.gate.set()
    while len(bench.batches) < 3:
        await asyncio.sleep(0)
    other = bench.submit(1, key="other")
    await asyncio.gather(held, other, *flood)
    turns = [batch[0] == 1 for batch in bench.batches]
    # The newcomer waits for the batch in work, and for one that may have been taken before it came.
    assert turns.index(True) <= 6


async def test_a_flood_that_fills_the_queue_gives_places_to_others(start):
    bench = start(max_batch_size=1, max_queue_items=8)
    held = await bench.hold_worker()
    flood = [bench.submit(item, key="flood") for item in range(1, 9)]
    await asyncio.sleep(0)
    other = bench.submit(50, key="other")
    await asyncio.wait(flood, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    assert [task.done() for task in flood] == [False] * 7 + [True]
    with pytest.raises(QueueFull):
        await flood[-1]
    with pytest.raises(QueueFull):
        await bench.submit(51, key="flood")
    bench.gate.set()
    assert await other == 100
    await asyncio.gather(held, *flood[:-1])


async def test_classes_with_equal_shares_do_not_push_each_other_out(start):
    bench = start(max_batch_size=1, max_queue_items=4)
    held = await bench.hold_worker()
    tasks = [bench.submit(item, key="ab"[item % 2]) for item in range(1, 5)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await bench.submit(9, key="a")
    bench.gate.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    await held


async def test_the_expected_wait_counts_each_class_at_its_own_cost(start):
    bench = start(max_batch_size=1, max_queue_items=40)
    costs = bench.batcher._costs
    costs.learn("dear", 8.0)
    costs.learn("cheap", 1.0)
    assert bench.batcher.expected_wait_s("cheap") == 0
    held = await bench.hold_worker()
    bench.batcher._running.clear()  # the call in work belongs to neither class
    tasks = [bench.submit(item, seconds=1000, key="dear") for item in range(3)]
    await asyncio.sleep(0)
    # Nothing cheap waits, so its turn is next; something dear waits for the 24 s of its own class.
    assert bench.batcher.expected_wait_s("cheap") == 0
    assert bench.batcher.expected_wait_s("dear") == 24
    tasks += [bench.submit(item, seconds=1000, key="cheap") for item in range(4)]
    await asyncio.sleep(0)
    # 4 s of cheap items, and as much time for the dear class in between.
    assert bench.batcher.expected_wait_s("cheap") == 8
    assert bench.batcher.expected_wait_s("dear") == 28
    bench.gate.set()
    await asyncio.gather(held, *tasks)


async def test_what_is_left_of_the_call_in_work_is_part_of_the_wait(start):
    bench = start()
    bench.batcher._costs.learn(None, 5.0)
    held = await bench.hold_worker()
    assert 4 < bench.batcher.expected_wait_s(None) <= 5
    bench.gate.set()
    await held


async def test_a_batch_grows_only_as_far_as_its_tightest_deadline_allows(start):
    bench = start(max_batch_size=4)
    held = await bench.hold_worker()
    bench.batcher._running.clear()
    tasks = [bench.submit(1, seconds=1.1), *(bench.submit(item) for item in (2, 3, 4))]
    await asyncio.sleep(0)
    bench.batcher._costs.learn(None, 0.4)
    bench.batcher._deliver = _without_learning(bench)
    bench.gate.set()
    await asyncio.gather(held, *tasks)
    assert bench.batches[1] == [1, 2]


def _without_learning(bench: Bench):
    deliver = bench.batcher._deliver

    def keep_costs(batch, results, _seconds):
        deliver(batch, results, bench.batcher._costs.of(None) * len(batch))

    return keep_costs


async def test_a_picture_waits_for_company_up_to_the_delay(start):
    bench = start(max_queue_delay_s=0.2)
    tasks = [bench.submit(item) for item in (1, 2)]
    await asyncio.sleep(0.02)
    tasks.append(bench.submit(3))
    await asyncio.gather(*tasks)
    assert bench.batches == [[1, 2, 3]]
    assert triggers(bench) == {"delay": 1}


async def test_a_full_batch_does_not_wait(start):
    bench = start(max_queue_delay_s=1.0)
    start_s = asyncio.get_running_loop().time()
    await asyncio.gather(*(bench.submit(item) for item in range(4)))
    assert asyncio.get_running_loop().time() - start_s < 0.9
    assert triggers(bench) == {"full": 1}


async def test_a_batch_that_grew_while_another_ran_does_not_wait_again(start):
    bench = start(max_queue_delay_s=0.05)
    held = await bench.hold_worker()
    late = bench.submit(1)
    await asyncio.sleep(0.1)
    bench.gate.set()
    await asyncio.gather(held, late)
    assert triggers(bench) == {"delay": 1, "idle": 1}


async def test_nobody_waits_for_company_beyond_his_deadline(start):
    bench = start(max_queue_delay_s=1.0)
    bench.batcher._costs.learn(None, 0.1)
    assert await bench.submit(1, seconds=0.4) == 2


async def test_a_draining_server_waits_for_no_company(start):
    bench = start(max_queue_delay_s=1.0)
    task = bench.submit(1)
    await asyncio.sleep(0.01)
    bench.batcher.drain()
    await asyncio.wait_for(task, 0.9)
    assert triggers(bench) == {"drain": 1}


async def test_instances_work_at_the_same_time(start):
    both = threading.Barrier(2)

    def meet(_key, items):
        both.wait(10)
        return items

    bench = start(num_instances=2, max_batch_size=1)
    bench.batcher._work = meet
    assert await asyncio.gather(bench.submit(1), bench.submit(2)) == [1, 2]


async def test_while_an_instance_is_free_nobody_waits(start):
    bench = start(num_instances=2)
    bench.batcher._costs.learn(None, 5.0)
    held = await bench.hold_worker()
    assert bench.batcher.expected_wait_s(None) == 0
    bench.gate.set()
    await held


class SmallDevice(Bench):
    """Has memory for `room` items at once."""

    room = 2

    def _double(self, key, items):
        if len(items) > self.room:
            self.batches.append(list(items))
            raise DeviceMemoryExhausted("full")
        return super()._double(key, items)


async def test_a_batch_that_does_not_fit_the_device_is_halved(start):
    bench = SmallDevice()
    bench.batcher.start()
    tasks = [bench.submit(item) for item in range(1, 5)]
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert bench.batches == [[1, 2, 3, 4], [1, 2], [3, 4]]
    await bench.batcher.stop()


async def test_a_device_without_memory_tells_clients_to_come_back(start):
    bench = SmallDevice()
    bench.room = 0
    bench.batcher.start()
    results = await asyncio.gather(*(bench.submit(item) for item in range(3)), return_exceptions=True)
    assert all(isinstance(error, DeviceMemoryFull) for error in results)
    assert all(error.reason == "DEVICE_MEMORY" and error.retry_after_s > 0 for error in results)
    assert [len(batch) for batch in bench.batches] == [3, 2, 1]
    with pytest.raises(DeviceMemoryFull):
        await bench.submit(1)
    await bench.batcher.stop()


async def test_what_was_cancelled_meanwhile_is_not_tried_again(start):
    bench = SmallDevice()
    bench.batcher.start()
    held = await bench.hold_worker()
    tasks = [bench.submit(item) for item in range(1, 5)]
    await asyncio.sleep(0)
    double = bench._double

    def cancel_first(key, items):
        if len(items) == 4:
            loop.call_soon_threadsafe(tasks[0].cancel)
        return double(key, items)

    loop = asyncio.get_running_loop()
    bench.batcher._work = cancel_first
    bench.gate.set()
    results = await asyncio.gather(held, *tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert results[2:] == [4, 6, 8]
    assert bench.batches[2:] == [[2], [3, 4]]
    await bench.batcher.stop()


async def test_a_result_that_comes_with_the_cancel_is_counted_as_wasted(start):
    bench = start()
    held = await bench.hold_worker()
    deliver = bench.batcher._deliver

    def deliver_and_cancel(batch, results, seconds):
        deliver(batch, results, seconds)
        held.cancel()

    bench.batcher._deliver = deliver_and_cancel
    bench.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await held
    text = bench.metrics.exposition()[1].decode()
    series = 'tessera_wasted_compute_seconds_total{model="fake",op="encode"}'
    (line,) = (x for x in text.splitlines() if x.startswith(series))
    assert float(line.split()[-1]) > 0


async def test_late_work_of_every_class_is_dropped(start):
    bench = start()
    held = await bench.hold_worker()
    late = [bench.submit(item, seconds=0.01, key=item % 3) for item in range(1, 7)]
    await asyncio.sleep(0.05)
    bench.gate.set()
    assert all(isinstance(e, DeadlinePassed) for e in await asyncio.gather(*late, return_exceptions=True))
    await held
    assert bench.batches == [[0]]


async def test_bulk_items_share_what_is_left_by_their_class(start):
    bench = start(max_batch_size=1, max_queue_items=40)
    bench.batcher._costs.learn("flood", 0.01)
    held = await bench.hold_worker()
    flood = [bulk(bench, 100 + item, key="flood") for item in range(10)]
    tasks = [bulk(bench, 1, key="other"), bench.submit(50, key="flood")]
    await asyncio.sleep(0)
    bench.gate.set()
    await asyncio.gather(held, *flood, *tasks)
    assert bench.batches[1] == [50]
    assert bench.batches.index([1]) <= 3


async def test_a_bulk_item_does_not_overtake_a_picture_that_waits_for_company(start):
    bench = start(max_queue_delay_s=0.1)
    single = bench.submit(1)
    await asyncio.sleep(0.01)
    await asyncio.gather(single, bulk(bench, 2))
    assert bench.batches == [[1], [2]]
    assert triggers(bench) == {"delay": 1, "idle": 1}


async def test_each_instance_needs_a_turn(start):
    turns = asyncio.Semaphore(1)
    bench = start(num_instances=2, max_batch_size=1, turns=turns)
    held = await bench.hold_worker()
    second = bench.submit(1)
    await asyncio.sleep(0.02)
    assert bench.batches == [[0]]
    turns.release()
    while len(bench.batches) < 2:
        await asyncio.sleep(0.001)
    bench.gate.set()
    assert await asyncio.gather(held, second) == [0, 2]


async def test_while_a_picture_waits_for_company_its_turn_is_free(start):
    turns = asyncio.Semaphore(1)
    bench = start(max_queue_delay_s=0.2, turns=turns)
    task = bench.submit(1)
    await asyncio.sleep(0.02)
    assert not turns.locked()
    assert await task == 2


async def test_stopping_ends_what_every_instance_has_in_work(start):
    bench = start(num_instances=2, max_batch_size=1)
    held = await bench.hold_worker()
    tasks = [held, bench.submit(1), bench.submit(2), bench.submit(3, key="other")]
    while len(bench.batches) < 2:
        await asyncio.sleep(0.001)
    await bench.batcher.stop()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, ModelUnloaded) for result in results)
