"""The distortion curve: how good each prefix of one stream will be. Pure numbers, no model."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DistortionCurve:
    """Predicted PSNR in dB at increasing lengths, never falling, with margins for each coverage.

    Between two lengths prediction and margin are linear in log2(1 + length).

    >>> curve = DistortionCurve((16, 64, 256), (18.0, 20.0, 22.0), {0.9: (0.1, 0.3, 0.5)})
    >>> curve.psnr_db_at(64)
    20.0
    >>> curve.shortest_length(19.5, coverage=0.9)
    56
    """

    lengths: tuple[int, ...]
    psnr_db: tuple[float, ...]
    margin_db: Mapping[float, tuple[float, ...]] = field(default_factory=dict)
    """Per coverage, what to subtract at each length: this picture's, so a sure prediction costs little."""

    def __post_init__(self) -> None:
        if len(self.lengths) != len(self.psnr_db) or not self.lengths:
            raise ValueError("a curve needs one PSNR per length, and at least one")
        if any(len(margins) != len(self.lengths) for margins in self.margin_db.values()):
            raise ValueError("a curve needs one margin per length for each coverage")
        if any(a >= b for a, b in zip(self.lengths, self.lengths[1:], strict=False)):
            raise ValueError(f"lengths must increase, got {self.lengths}")
        if any(a > b for a, b in zip(self.psnr_db, self.psnr_db[1:], strict=False)):
            raise ValueError("predicted PSNR must not fall with length")

    def psnr_db_at(self, length: int) -> float:
        """Predicted PSNR of the first `length` tokens."""
        return self._interpolated(self.psnr_db, length)

    def lower_bound_db(self, length: int, coverage: float | None) -> float:
        """PSNR that this share of pictures reaches with `length` tokens; None: the prediction itself."""
        return self.psnr_db_at(length) - (0.0 if coverage is None else self.margin_at(coverage, length))

    def shortest_length(self, min_psnr_db: float, coverage: float | None) -> int | None:
        """The shortest length whose lower bound reaches `min_psnr_db`; None if none does."""
        reached = [self.lower_bound_db(length, coverage) >= min_psnr_db for length in self.lengths]
        if not any(reached):
            return None
        first = reached.index(True)
        # The bound is linear in log2(1 + length) between two lengths, so it rises where it gets there.
        low, high = self.lengths[max(0, first - 1)], self.lengths[first]
        while low < high:
            middle = (low + high) // 2
            if self.lower_bound_db(middle, coverage) >= min_psnr_db:
                high = middle
            else:
                low = middle + 1
        return low

    def margin_at(self, coverage: float, length: int) -> float:
        """Margin of the smallest calibrated coverage that is at least the asked one, else of the largest."""
        if not self.margin_db:
            return 0.0
        known = min((c for c in self.margin_db if c >= coverage), default=max(self.margin_db))
        return self._interpolated(self.margin_db[known], length)

    def _interpolated(self, values: Sequence[float], length: int) -> float:
        if length <= self.lengths[0]:
            return values[0]
        if length >= self.lengths[-1]:
            return values[-1]
        right = bisect_left(self.lengths, length)
        x0, x1 = (math.log2(1 + self.lengths[i]) for i in (right - 1, right))
        y0, y1 = values[right - 1], values[right]
        return y0 + (y1 - y0) * (math.log2(1 + length) - x0) / (x1 - x0)
