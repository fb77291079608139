"""What is counted between two log lines: loss ratio per byte bucket, and pictures per second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from training.distributed import World
from training.losses import distortion_ratio

# Lower ends of the buckets, in bytes (one token each): the lengths that sheets and tables show.
BUCKETS = (0, 24, 64, 128, 512)


class RatioMeter:
    """Sums loss ratios by the length they were decoded at; stays on the device until it is read."""

    def __init__(self, device: torch.device) -> None:
        self._edges = torch.tensor(BUCKETS[1:], device=device)
        self._sums = torch.zeros(2, len(BUCKETS), device=device)

    @torch.no_grad()
    def add(self, length_B: Tensor, mse_B: Tensor, linear_mse_B: Tensor) -> None:
        """Count one decode of a batch."""
        bucket = torch.bucketize(length_B, self._edges, right=True)
        ratio = distortion_ratio(mse_B, linear_mse_B).float()
        self._sums[0].index_add_(0, bucket, ratio)
        self._sums[1].index_add_(0, bucket, torch.ones_like(ratio))

    def read(self, world: World) -> dict[str, float]:
        """Mean ratio in dB per bucket that was met, below 0 = better than the linear codec; starts anew."""
        total, count = world.sum(self._sums).tolist()
        self._sums.zero_()
        names = [f"{a}-{b - 1}" for a, b in pairwise(BUCKETS)] + [f"{BUCKETS[-1]}+"]
        means = {name: t / c for name, t, c in zip(names, total, count, strict=True) if c}
        return {name: float(10 * torch.log10(torch.tensor(mean))) for name, mean in means.items()}


class Speed:
    """Pictures per second of the steps alone, without validation, sheets and checkpoints."""

    def __init__(self) -> None:
        self._pictures, self._seconds = 0, 0.0

    @contextmanager
    def timing(self, pictures: int) -> Iterator[None]:
        """Count what happens within. The step must end by reading a number from the device."""
        start = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - start
        self._pictures += pictures

    def read(self) -> float:
        """Pictures per second since the last reading."""
        speed = self._pictures / max(self._seconds, 1e-9)
        self._pictures, self._seconds = 0, 0.0
        return speed
