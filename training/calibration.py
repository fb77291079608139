"""From predictions and truth to the margins that keep the promise. numpy only; knows no network.

score per length   split-conformal quantile of (predicted - true) / predicted spread, smoothed along lengths
                   (locally weighted: Lei et al., JASA 2018)
one addition       so that the lengths which these margins choose miss no more targets than promised
                   (conformal risk control: Angelopoulos et al., ICLR 2024)

The second step is needed because a length is chosen where the bound is high, which favours pictures whose
bound is too high; and because neighbouring lengths err together.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TARGET_STEP_DB = 0.5
FINE_STEPS = 512
SMOOTHING = np.asarray((0.25, 0.5, 0.25))
# Spreads by which the addition may widen or narrow the margins, and how finely it is found.
ADDITION_RANGE = (-1.0, 5.0)
BISECTIONS = 12


@dataclass(frozen=True)
class Predictions:
    """Predicted and true PSNR of calibration pictures, f64[P, L] each, and the lengths L."""

    lengths: tuple[int, ...]
    psnr_db: Array
    spread_db: Array
    true_psnr_db: Array


def margin_scores(found: Predictions, coverages: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """Per coverage and length, how many spreads the margin takes; never falling with coverage."""
    scores = [_scores(found, coverage) for coverage in coverages]
    rising = np.maximum.accumulate(np.stack(scores), axis=0)
    return {
        str(coverage): tuple(round(float(score), 4) for score in row)
        for coverage, row in zip(coverages, rising, strict=True)
    }


def missed_share(found: Predictions, scores: Array) -> Array:
    """Per picture, the share of targets within its reach that the chosen length misses, f64[P].

    Targets are half a decibel apart, from the picture's first length to its last.
    """
    to_fine = _interpolation(found.lengths)
    bound = np.maximum.accumulate(found.psnr_db - scores * found.spread_db, axis=1) @ to_fine
    true = np.maximum.accumulate(found.true_psnr_db, axis=1) @ to_fine
    rows = np.arange(len(true))
    missed, asked = np.zeros(len(true)), np.zeros(len(true))
    for target in np.arange(true[:, 0].min(), true[:, -1].max(), TARGET_STEP_DB):
        chosen = np.minimum((bound < target).sum(1), true.shape[1] - 1)
        is_asked = (true[:, 0] <= target) & (target <= true[:, -1])
        asked += is_asked
        missed += is_asked & (true[rows, chosen] < target)
    share: Array = missed / np.maximum(asked, 1)
    return share


def _scores(found: Predictions, coverage: float) -> Array:
    excess = (found.psnr_db - found.true_psnr_db) / found.spread_db
    rank = min(len(excess), ceil((len(excess) + 1) * coverage)) - 1
    quantile = np.sort(excess, axis=0)[rank]
    smooth: Array = np.convolve(np.pad(quantile, 1, mode="edge"), SMOOTHING, mode="valid")
    return smooth + _addition(found, smooth, coverage)


def _addition(found: Predictions, scores: Array, coverage: float) -> float:
    """The least addition that keeps the promise; with too few pictures to promise it, the least that
    would have missed nothing."""
    count = len(found.psnr_db)
    allowed = max(0.0, (count + 1) * (1 - coverage) - 1)
    low, high = ADDITION_RANGE
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if missed_share(found, scores + middle).sum() <= allowed:
            high = middle
        else:
            low = middle
    return high


def _interpolation(lengths: tuple[int, ...]) -> Array:
    """f64[L, fine] that interpolates linearly in log2(1 + length), as `DistortionCurve` does."""
    knots = np.log2(1 + np.asarray(lengths))
    fine = np.linspace(knots[0], knots[-1], FINE_STEPS + 1)
    return np.stack([np.interp(fine, knots, unit) for unit in np.eye(len(knots))])
