"""PicturePool: what nobody waits for any longer gets no thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving.pictures import PicturePool


@pytest.fixture
async def stuck():
    """A pool of one thread that waits at a gate, and the gate."""
    pool, gate, inside = PicturePool(1), threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        assert gate.wait(20)

    holder = asyncio.create_task(pool.run(wait))
    while not inside.is_set():
        await asyncio.sleep(0.001)
    yield pool, gate
    gate.set()
    await holder
    pool.stop()


async def test_a_cancelled_request_whose_picture_waits_is_never_decoded(stuck):
    pool, gate = stuck
    ran = []
    tasks = [asyncio.create_task(pool.run(lambda number=number: ran.append(number))) for number in range(6)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks[::2], return_exceptions=True)
    await asyncio.sleep(0)  # asyncio tells the pool one turn of the loop later
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert ran == [1, 3, 5]


async def test_a_deadline_that_passes_while_a_picture_waits_spares_the_thread(stuck):
    pool, gate = stuck
    ran = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pool.run(lambda: ran.append(1))
    gate.set()
    await pool.run(lambda: ran.append(2))
    assert ran == [2]
