"""The distortion curve: how good each prefix of one stream will be. Pure numbers, no model."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DistortionCurve:
    """Predicted PSNR in dB at increasing lengths, never falling, with a margin for each coverage.

    Between two lengths it is linear in log2(1 + length).

    >>> curve = DistortionCurve((16, 64, 256), (18.0, 20.0, 22.0), {0.9: 0.5})
    >>> curve.psnr_db_at(64)
    20.0
    >>> curve.shortest_length(19.5, coverage=0.9)
    64
    """

    lengths: tuple[int, ...]
    psnr_db: tuple[float, ...]
    margin_db: Mapping[float, float] = field(default_factory=dict)
    """Split-conformal margin per coverage: PSNR is at least curve - margin for that share of pictures."""

    def __post_init__(self) -> None:
        if len(self.lengths) != len(self.psnr_db) or not self.lengths:
            raise ValueError("a curve needs one PSNR per length, and at least one")
        if any(a >= b for a, b in zip(self.lengths, self.lengths[1:], strict=False)):
            raise ValueError(f"lengths must increase, got {self.lengths}")
        if any(a > b for a, b in zip(self.psnr_db, self.psnr_db[1:], strict=False)):
            raise ValueError("predicted PSNR must not fall with length")

    def psnr_db_at(self, length: int) -> float:
        """Predicted PSNR of the first `length` tokens."""
        if length <= self.lengths[0]:
            return self.psnr_db[0]
        if length >= self.lengths[-1]:
            return self.psnr_db[-1]
        right = bisect_left(self.lengths, length)
        x0, x1 = (math.log2(1 + self.lengths[i]) for i in (right - 1, right))
        y0, y1 = self.psnr_db[right - 1], self.psnr_db[right]
        return y0 + (y1 - y0) * (math.log2(1 + length) - x0) / (x1 - x0)

    def shortest_length(self, min_psnr_db: float, coverage: float) -> int | None:
        """The shortest length expected to reach `min_psnr_db` with this coverage; None if none does."""
        wanted_db = min_psnr_db + self.margin_at(coverage)
        if self.psnr_db[-1] < wanted_db:
            return None
        low, high = self.lengths[0], self.lengths[-1]
        while low < high:
            middle = (low + high) // 2
            if self.psnr_db_at(middle) >= wanted_db:
                high = middle
            else:
                low = middle + 1
        return low

    def margin_at(self, coverage: float) -> float:
        """The margin calibrated for the smallest known coverage that is at least the asked one."""
        enough = [known for known in sorted(self.margin_db) if known >= coverage]
        if not enough:
            return max(self.margin_db.values(), default=0.0)
        return self.margin_db[enough[0]]
