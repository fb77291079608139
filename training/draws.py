"""What each step draws: canvas, pictures, windows. Pure functions of (seed, step); no pixel is touched.

Every process draws for the whole batch and takes its part, so a batch does not depend on how many
processes there are, and a resumed run goes on with the draws of an unbroken one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from functools import lru_cache
from typing import Protocol

import numpy as np

from tokenizer.canvas import Size
from training.config import TrainConfig
from training.data import largest_window


class Purpose(IntEnum):
    """Streams of random numbers that share a seed and must not share numbers."""

    ORDER = 0
    WINDOWS = 1
    CANVAS = 2
    CODING = 3
    CROPS = 4


@dataclass(frozen=True)
class Windows:
    """One row per picture of a batch: which picture, which part of it in its pixels, mirrored or not."""

    picture: np.ndarray
    top: np.ndarray
    left: np.ndarray
    height: np.ndarray
    width: np.ndarray
    flip: np.ndarray

    def __len__(self) -> int:
        return len(self.picture)

    def part(self, share: slice) -> Windows:
        """Some of the rows."""
        return Windows(*(getattr(self, field.name)[share] for field in fields(self)))

    def rows(self, picks: np.ndarray) -> Windows:
        """Rows by their numbers."""
        return Windows(*(getattr(self, field.name)[picks] for field in fields(self)))


def generator(seed: int, purpose: Purpose, number: int) -> np.random.Generator:
    """The random numbers of one purpose and step (or epoch)."""
    return np.random.default_rng((seed, int(purpose), number))


def draw_canvas(config: TrainConfig, step: int) -> Size:
    """The canvas of a step: one for the whole batch, so that all processes do equal work."""
    weights = np.asarray(config.canvas_weights or [1.0] * len(config.canvases))
    choice = generator(config.seed, Purpose.CANVAS, step).choice(len(weights), p=weights / weights.sum())
    return config.canvases[int(choice)]


class WindowConfig(Protocol):
    """What windows are drawn by."""

    @property
    def seed(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def scale_range(self) -> tuple[float, float]: ...


def draw_windows(config: WindowConfig, sizes: np.ndarray, canvas: Size, step: int) -> Windows:
    """Part of each picture that the step shows; `sizes` are height and width of all pictures, i64[N, 2].

    A part has the canvas's aspect and `scale_range` times the side of the largest such part.
    """
    first = step * config.batch_size
    picture = np.asarray([pick(first + i, len(sizes), config.seed) for i in range(config.batch_size)])
    scale, down, right, mirror = generator(config.seed, Purpose.WINDOWS, step).random((4, config.batch_size))
    low, high = config.scale_range
    largest = [largest_window(Size(width, height), canvas) for height, width in sizes[picture].tolist()]
    sides = np.asarray([(size.height_px, size.width_px) for size in largest])
    part = np.maximum(1, np.rint(sides * (low + (high - low) * scale)[:, None])).astype(np.int64)
    free = sizes[picture] - part + 1
    return Windows(
        picture=picture,
        top=(down * free[:, 0]).astype(np.int64),
        left=(right * free[:, 1]).astype(np.int64),
        height=part[:, 0],
        width=part[:, 1],
        flip=mirror < 0.5,
    )


def pick(position: int, count: int, seed: int) -> int:
    """Picture number `position` of an endless reading of the set, each epoch in its own order."""
    epoch, within = divmod(position, count)
    return int(_order(seed, epoch, count)[within])


@lru_cache(maxsize=2)  # a batch may reach into the next epoch
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return generator(seed, Purpose.ORDER, epoch).permutation(count)
