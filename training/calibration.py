"""From predictions and truth to the margins that keep the promise. numpy only; knows no network.

A margin is the predicted spread times a score (locally weighted conformal prediction, Lei et al., JASA
2018). The score is the least with which the lengths that it *chooses* miss no more targets than promised
(conformal risk control, Angelopoulos et al., ICLR 2024), with 95 % confidence: a promise that holds on
average over calibration sets is not enough, since a user lives with one (Bates et al., JACM 2021; with
dozens of sources Student's bound serves). A user's pictures come from other sources than ours, and
pictures of one source are alike, so sources are what is exchangeable, not pictures (hierarchical conformal
prediction: Dunn, Wasserman and Ramdas, JASA 2023; Lee, Barber and Willett 2023).
Quantiles of error / spread at each length promise less than they seem to: a length is chosen where the
bound is high, which favours pictures whose bound is too high. A score per length was measured, too: it
spent 2 % more bytes for the same promise (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TARGET_STEP_DB = 0.1
# Pictures of one difficulty: at most so many groups, of at least so many.
MAX_GROUPS, LEAST_GROUP = 4, 100
# Normal quantile of the confidence: one set of calibration pictures in twenty promises too much.
NORMAL_QUANTILE = 1.6449
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
    sources: tuple[str, ...] = ()
    """Of each picture; empty: each is a source of its own."""

    def __post_init__(self) -> None:
        if self.sources and len(self.sources) != len(self.psnr_db):
            raise ValueError(f"a source for each of {len(self.psnr_db)} pictures, got {len(self.sources)}")

    def part(self, rows: NDArray[np.int64]) -> Predictions:
        """Some of the pictures."""
        columns = {name: getattr(self, name)[rows] for name in ("psnr_db", "spread_db", "true_psnr_db")}
        return replace(self, **columns, sources=tuple(self.sources[row] for row in rows if self.sources))


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
    return [found.part(rows) for rows in np.array_split(order, count)]


def missed_share(found: Predictions, score: float) -> Array:
    """Per picture, the share of targets within its reach that the chosen length misses, f64[P].

    Targets are a tenth of a decibel apart, from the picture's first length to its last; half a decibel made
    the share hang on where the first one lay. Lengths are chosen to the token, as `DistortionCurve` does.
    """
    every = tuple(range(found.lengths[0], found.lengths[-1] + 1))
    bound = np.maximum.accumulate(found.psnr_db - score * found.spread_db, axis=1) @ _interpolation(
        found.lengths, every
    )
    true = found.true_psnr_db @ _interpolation(found.true_lengths, every)
    targets = np.arange(true[:, 0].min(), true[:, -1].max(), TARGET_STEP_DB)
    return np.asarray([_missed(*row, targets) for row in zip(bound, true, strict=True)])


def _missed(bound: Array, true: Array, targets: Array) -> float:
    """Of one picture; both curves at every length."""
    asked = targets[(true[0] <= targets) & (targets <= true[-1])]
    chosen = np.minimum(np.searchsorted(bound, asked), len(bound) - 1)
    return float((true[chosen] < asked).sum() / max(1, len(asked)))


def _score(found: Predictions, coverage: float) -> float:
    """The least score that keeps the promise; with too few pictures to promise it, the least that would
    have missed nothing."""
    low, high = SCORE_RANGE
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        missed = missed_share(found, middle)
        if not missed.any() or risk_bound(missed, found.sources) <= 1 - coverage:
            high = middle
        else:
            low = middle
    return high


def risk_bound(missed: Array, sources: tuple[str, ...] = ()) -> float:
    """What the mean share of missed targets is at most on new pictures, with confidence; `missed` f64[P].

    Empty `sources`: each picture is a source of its own.
    """
    totals = _source_totals(missed - missed.mean(), sources)
    count, degrees = len(missed), len(totals) - 1
    if degrees < 1:
        return 1.0  # one source says nothing about others
    # Cluster-robust (Liang and Zeger, Biometrika 1986), with the usual correction for few clusters.
    deviation = ((totals**2).sum() * len(totals) / degrees) ** 0.5 / count
    # A new picture counts as one that missed everything: the correction of conformal risk control.
    return float((missed.sum() + 1) / (count + 1) + _student_quantile(degrees) * deviation)


def _source_totals(values: Array, sources: tuple[str, ...]) -> Array:
    """Sum over the pictures of each source, f64[S]."""
    if not sources:
        return values
    return np.bincount(np.unique(sources, return_inverse=True)[1], values)


def _student_quantile(degrees: int) -> float:
    """Of Student's t at the confidence (Abramowitz and Stegun 26.7.5; 0.01 low at 3 degrees, 0.7 at 1)."""
    z = NORMAL_QUANTILE
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _interpolation(lengths: tuple[int, ...], every: tuple[int, ...]) -> Array:
    """f64[L, E] that interpolates linearly in log2(1 + length), as `DistortionCurve` does."""
    knots, places = (np.log2(1 + np.asarray(some)) for some in (lengths, every))
    return np.stack([np.interp(places, knots, unit) for unit in np.eye(len(knots))])
