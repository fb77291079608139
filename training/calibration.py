"""From predictions and truth to the margins that keep the promise. numpy only; knows no network.

A margin is the predicted spread times a score (locally weighted conformal prediction, Lei et al., JASA 2018).
The score is the least with which the lengths that it *chooses* miss no more targets than promised
(conformal risk control, Angelopoulos et al., ICLR 2024). Quantiles of error / spread at each length promise
less than they seem to: a length is chosen where the bound is high, which favours pictures whose bound is
too high. A score per length was measured, too: it spent 2 % more bytes for the same promise (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TARGET_STEP_DB = 0.5
FINE_STEPS = 512
# Where the score is looked for, and how finely: to less than a thousandth.
SCORE_RANGE = (-5.0, 50.0)
BISECTIONS = 16


@dataclass(frozen=True)
class Predictions:
    """Predicted and true PSNR of calibration pictures, f64[P, L] each, and the lengths L."""

    lengths: tuple[int, ...]
    psnr_db: Array
    spread_db: Array
    true_psnr_db: Array


def margin_scores(found: Predictions, coverages: tuple[float, ...]) -> dict[str, float]:
    """Per coverage (as text), how many spreads the margin takes; never falling with coverage."""
    scores = np.maximum.accumulate([_score(found, coverage) for coverage in coverages])
    return {str(coverage): round(float(score), 4) for coverage, score in zip(coverages, scores, strict=True)}


def missed_share(found: Predictions, score: float) -> Array:
    """Per picture, the share of targets within its reach that the chosen length misses, f64[P].

    Targets are half a decibel apart, from the picture's first length to its last.
    """
    to_fine = _interpolation(found.lengths)
    bound = np.maximum.accumulate(found.psnr_db - score * found.spread_db, axis=1) @ to_fine
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


def _score(found: Predictions, coverage: float) -> float:
    """The least score that keeps the promise; with too few pictures to promise it, the least that would
    have missed nothing."""
    count = len(found.psnr_db)
    allowed = max(0.0, (count + 1) * (1 - coverage) - 1)
    low, high = SCORE_RANGE
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if missed_share(found, middle).sum() <= allowed:
            high = middle
        else:
            low = middle
    return high


def _interpolation(lengths: tuple[int, ...]) -> Array:
    """f64[L, fine] that interpolates linearly in log2(1 + length), as `DistortionCurve` does."""
    knots = np.log2(1 + np.asarray(lengths))
    fine = np.linspace(knots[0], knots[-1], FINE_STEPS + 1)
    return np.stack([np.interp(fine, knots, unit) for unit in np.eye(len(knots))])
