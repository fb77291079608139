"""How far worker processes are in their units: memory that they write and the job reads. Knows no units."""

from __future__ import annotations

import ctypes
import multiprocessing
from typing import Any

from serving.batch.trail import Tick


class LiveCounts:
    """A slot for each worker.

    No lock: a worker that is killed while it holds one would stop all others. Each slot has one writer at a
    time, and an aligned word is never half written.
    """

    def __init__(self, slots: int) -> None:
        self.shared: Any = multiprocessing.get_context("spawn").RawArray(ctypes.c_int64, slots)
        """Crosses to a process that is started with it among its arguments."""
        self._free = list(range(slots))

    def take(self) -> int:
        """A slot at 0."""
        return self._free.pop()

    def reset(self, slot: int) -> None:
        """Its unit is done."""
        self.shared[slot] = 0

    def free(self, slot: int) -> None:
        """Its worker is gone."""
        self.reset(slot)
        self._free.append(slot)

    def total(self) -> int:
        """Over all units in work; any thread may ask."""
        return sum(self.shared)


def tick_into(shared: Any, slot: int) -> Tick:
    """What a worker calls after every sample."""

    def tick(done: int) -> None:
        shared[slot] = done

    return tick
