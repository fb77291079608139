"""MemoryBudget: single requests are refused at once, bulk items wait their turn and take what is left."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.memory import MemoryBudget


async def turns() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def waiting(budget: MemoryBudget, *sizes: int) -> list[asyncio.Task]:
    tasks = [asyncio.create_task(budget.wait_for(size)) for size in sizes]
    await turns()
    return tasks


async def test_bulk_items_hold_half_at_most_and_single_requests_all_the_rest():
    budget = MemoryBudget(100)
    first, second, third = await waiting(budget, 30, 20, 1)
    assert first.done() and second.done() and not third.done()
    assert budget.take(50) and not budget.take(1)
    budget.give_bulk(30)
    await turns()
    assert third.done()


async def test_single_requests_may_take_everything_and_bulk_items_then_wait():
    budget = MemoryBudget(100)
    assert budget.take(60) and budget.take(40)
    (item,) = await waiting(budget, 1)
    assert not item.done()
    budget.give(40)
    await turns()
    assert item.done()


async def test_an_item_larger_than_the_share_of_bulk_waits_until_it_is_the_only_one():
    budget = MemoryBudget(100)
    small, large, next_small = await waiting(budget, 10, 90, 10)
    assert small.done() and not large.done() and not next_small.done(), "nobody overtakes"
    budget.give_bulk(10)
    await turns()
    assert large.done() and not next_small.done()
    budget.give_bulk(90)
    await turns()
    assert next_small.done()


async def test_an_item_that_gives_up_makes_way_for_those_behind_it():
    budget = MemoryBudget(100)
    held, large, small = await waiting(budget, 10, 90, 10)
    large.cancel()
    await turns()
    assert held.done() and small.done()


async def test_items_cancelled_together_leave_nothing_behind():
    budget = MemoryBudget(100)
    holding, *others = await waiting(budget, 50, 30, 30)
    assert holding.done()
    for one in others:
        one.cancel()
    budget.give_bulk(50)  # before the tasks of the cancelled ones have run
    await turns()
    assert all(one.cancelled() for one in others)
    assert budget.take(100)


async def test_an_item_cancelled_in_the_moment_of_its_turn_gives_its_bytes_back():
    budget = MemoryBudget(100)
    assert budget.take(100)
    (item,) = await waiting(budget, 40)
    budget.give(100)  # the turn comes, and before the task runs again
    item.cancel()
    with pytest.raises(asyncio.CancelledError):
        await item
    assert budget.take(100)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "wait", "end", "cancel"]), st.integers(1, 100))))
def test_the_budget_is_kept_whatever_happens_and_all_of_it_comes_back(steps):
    async def run() -> None:
        budget, single, bulk = MemoryBudget(100), [], []
        for what, size in steps:
            if what == "take" and budget.take(size):
                single.append(size)
            elif what == "wait":
                bulk.append((size, *await waiting(budget, size)))
            elif what == "end" and single:
                budget.give(single.pop(0))
            elif what == "end" and bulk and bulk[0][1].done():
                budget.give_bulk(bulk.pop(0)[0])
            elif what == "cancel" and bulk and not bulk[-1][1].done():
                bulk.pop()[1].cancel()
            await turns()
            inside = [size for size, task in bulk if task.done()]
            assert sum(single) + sum(inside) <= 100
            assert len(inside) <= 1 or sum(inside) <= 50
        for size in single:
            budget.give(size)
        for size, task in bulk:
            await asyncio.wait_for(task, 1)
            budget.give_bulk(size)
        assert budget.take(100)

    asyncio.run(run())
