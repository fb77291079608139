"""From predictions and truth to the margins that keep the promise. numpy only; knows no network.

A margin is the predicted spread times a score (locally weighted conformal prediction, Lei et al., JASA
2018). The score is the least with which the lengths that it *chooses* miss no more targets than promised
(conformal risk control, Angelopoulos et al., ICLR 2024), with 95 % confidence: a promise that holds on
average over calibration sets is not enough, since a user lives with one (Bates et al., JACM 2021; with
hundreds of pictures the normal bound serves). Quantiles of error / spread at each length promise less than
they seem to: a length is chosen where the bound is high, which favours pictures whose bound is too high. A
score per length was measured, too: it spent 2 % more bytes for the same promise (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TARGET_STEP_DB = 0.5
# Pictures of one difficulty: at most so many groups, of at least so many.
MAX_GROUPS, LEAST_GROUP = 4, 100
# Normal quantile of the confidence: one set of calibration pictures in twenty promises too much.
CONFIDENCE_DEVIATIONS = 1.645
FINE_STEPS = 512
# Where the score is looked for, and how finely: to less than a thousandth.
SCORE_RANGE = (-5.0, 50.0)
BISECTIONS = 16


@dataclass(frozen=True)
class Predictions:
    """Predicted and true PSNR of calibration pictures."""

    lengths: tuple[int, ...]
    psnr_db: Array
    """f64[P, L], at the lengths; so is the spread."""
    spread_db: Array
    true_psnr_db: Array
    """f64[P, M], at the true lengths."""
    true_lengths: tuple[int, ...]
    """More than are predicted: a promise is asked for between them, too."""


def margin_scores(found: Predictions, coverages: tuple[float, ...]) -> dict[str, float]:
    """Per coverage (as text), how many spreads the margin takes; never falling with coverage.

    The promise holds for easy pictures and for hard ones, each (group-conditional, Vovk 2012): a user's
    pictures are another mix than ours.
    """
    groups = _by_difficulty(found)
    scores = np.maximum.accumulate([max(_score(g, coverage) for g in groups) for coverage in coverages])
    return {str(coverage): round(float(score), 4) for coverage, score in zip(coverages, scores, strict=True)}


def _by_difficulty(found: Predictions) -> list[Predictions]:
    """Parts of equal size by the PSNR predicted at the middle length."""
    order = np.argsort(found.psnr_db[:, len(found.lengths) // 2], kind="stable")
    count = max(1, min(MAX_GROUPS, len(order) // LEAST_GROUP))
    columns = ("psnr_db", "spread_db", "true_psnr_db")
    return [
        replace(found, **{name: getattr(found, name)[part] for name in columns})
        for part in np.array_split(order, count)
    ]


def missed_share(found: Predictions, score: float) -> Array:
    """Per picture, the share of targets within its reach that the chosen length misses, f64[P].

    Targets are half a decibel apart, from the picture's first length to its last.
    """
    bound = np.maximum.accumulate(found.psnr_db - score * found.spread_db, axis=1) @ _interpolation(
        found.lengths
    )
    true = np.maximum.accumulate(found.true_psnr_db, axis=1) @ _interpolation(found.true_lengths)
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
    low, high = SCORE_RANGE
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        missed = missed_share(found, middle)
        if not missed.any() or risk_bound(missed) <= 1 - coverage:
            high = middle
        else:
            low = middle
    return high


def risk_bound(missed: Array) -> float:
    """What the mean share of missed targets is at most on new pictures, with confidence; `missed` f64[P]."""
    count = len(missed)
    # A new picture counts as one that missed everything: the correction of conformal risk control.
    return float((missed.sum() + 1) / (count + 1) + CONFIDENCE_DEVIATIONS * missed.std() / count**0.5)


def _interpolation(lengths: tuple[int, ...]) -> Array:
    """f64[L, fine] that interpolates linearly in log2(1 + length), as `DistortionCurve` does."""
    knots = np.log2(1 + np.asarray(lengths))
    fine = np.linspace(knots[0], knots[-1], FINE_STEPS + 1)
    return np.stack([np.interp(fine, knots, unit) for unit in np.eye(len(knots))])
