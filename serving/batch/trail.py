"""Which sample a worker is at, on its way through a unit: for the bar, and for who looks for a guilty one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

SampleT = TypeVar("SampleT", bound=Any)
"""A frozen dataclass with `is_poison`: what a source of pictures or of streams gives."""

Tick = Callable[[int], None]
"""Told how many samples of the unit are done."""


def watched(samples: Iterator[SampleT], poison: tuple[int, ...], trail: Path | None) -> Iterator[SampleT]:
    """The samples, poisonous ones marked; the file `trail` holds the number of the one in work."""
    for number, sample in enumerate(samples):
        if trail is not None:
            trail.write_text(str(number))
        yield replace(sample, is_poison=True) if number in poison else sample


def no_tick(done: int) -> None:
    """Where nobody watches."""
