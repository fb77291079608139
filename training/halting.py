"""Fit and calibrate the halting head: what it predicts against what the decoder really does.

pictures for the fit   → measured curves → PSNR and spread of each prefix
pictures for margins   → measured curves → margin scores (training/calibration.py)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.model.halting import DistortionHead, HeadSizes
from training.calibration import Predictions, margin_scores
from training.curves import Codec, Curves, measure_curves, places, true_lengths
from training.data import PictureSet
from training.synthetic import synthetic_pictures

CANDIDATE_LENGTHS = (
    4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
)  # fmt: skip
# Where calibration pictures are decoded.
TRUE_LENGTHS = true_lengths(CANDIDATE_LENGTHS)
COVERAGES = (0.5, 0.8, 0.9, 0.95, 0.99)
# Pictures of the fit are decoded at every third length.
FIT_EVERY = 3
# Pictures that no camera takes, per picture that one took.
SYNTHETIC_SHARE = 0.05
NUM_MEMBERS = 4
BATCH_SIZE = 64
# How often the fit sees each picture, and the fewest steps that it takes.
EPOCHS, MIN_STEPS = 60, 500
# Blocks of each picture that a step of the fit looks at: a quarter, so that none is learned by heart.
FIT_BLOCKS = 64
SPREAD_WEIGHT = 0.02


MarginScores = dict[str, dict[str, float]]
"""Per coding and coverage, as `TokenizerConfig` has them."""


@dataclass(frozen=True)
class FittedHalting:
    """A head, its margin scores, and the curves that they were taken on."""

    head: DistortionHead
    margin_scores: MarginScores
    unseen: dict[Coding, Curves]
    facts: dict[str, float]


def fit_halting(codec: Codec, fit: PictureSet, unseen: PictureSet, canvas: Size) -> FittedHalting:
    """Fit a head on some pictures and calibrate it on others, which nothing has seen."""
    synthetic = synthetic_pictures(ceil(SYNTHETIC_SHARE * len(fit)), canvas)
    seen = [measure_curves(codec, fit + synthetic, canvas, CANDIDATE_LENGTHS, c, FIT_EVERY) for c in Coding]
    head = fit_head(seen[0] + seen[1])
    curves = {c: measure_curves(codec, unseen, canvas, TRUE_LENGTHS, c) for c in Coding}
    scores, errors_db = calibrated(
        lambda measured: predictions(head, measured, true_lengths=TRUE_LENGTHS), curves, unseen.sources
    )
    at_candidates = {c: one.at(places(CANDIDATE_LENGTHS, TRUE_LENGTHS)) for c, one in curves.items()}
    return FittedHalting(
        head, scores, at_candidates, {"fitted_on": len(fit), "calibrated_on": len(unseen), **errors_db}
    )


def calibrated(
    predict: Callable[[Curves], Predictions], curves: dict[Coding, Curves], sources: tuple[str, ...]
) -> tuple[MarginScores, dict[str, float]]:
    """Margin scores of each coding, and the mean absolute errors of the predicted curves in dB.

    `sources` of the curves' pictures, as `PictureSet` has them.
    """
    found = {coding: replace(predict(measured), sources=sources) for coding, measured in curves.items()}
    scores = {str(coding): margin_scores(one, COVERAGES) for coding, one in found.items()}
    errors_db = {
        f"mean_absolute_error_db_{coding}": round(mean_absolute_error_db(one), 4)
        for coding, one in found.items()
    }
    return scores, errors_db


def fit_head(
    curves: Curves, steps: int | None = None, seed: int = 0, num_members: int = NUM_MEMBERS
) -> DistortionHead:
    """Huber fit on dB, and the Laplace likelihood of what it leaves; it starts as the linear curve itself.

    Cross-fitted: of `num_members` parts of the pictures, each member learns gains on all but one and its
    spread on that one, because errors on pictures that were learned are too small.
    """
    steps = steps or max(MIN_STEPS, EPOCHS * len(curves) // BATCH_SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = DistortionHead(
            HeadSizes(curves.linear_psnr_db.shape[1], curves.features.shape[1], curves.blocks.shape[2]),
            num_members,
        )
        head.linear.fit(curves.linear_psnr_db)
        head.features.fit(curves.features)
        head.blocks.fit(curves.blocks)
        # All parameters at once: 52 small ones take longer to be called one by one than to be changed.
        optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.05, foreach=True)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
        for _ in range(steps):
            loss = _loss(head, curves, torch.randint(len(curves), (BATCH_SIZE,)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def _loss(head: DistortionHead, curves: Curves, pick: Tensor) -> Tensor:
    linear, true_db = curves.linear_psnr_db[pick], curves.true_psnr_db[pick]
    some = torch.randperm(curves.blocks.shape[1])[:FIT_BLOCKS]
    members = head.each_member(linear, curves.features[pick], curves.blocks[pick][:, some])
    part, is_known = pick % max(2, len(members)), ~true_db.isnan()
    losses = [
        _member_loss(linear + gain - true_db, spread, is_known, (part == own)[:, None])
        for own, (gain, spread) in enumerate(members)
    ]
    return torch.stack(losses).sum()


def _member_loss(error_db: Tensor, spread_db: Tensor, is_known: Tensor, is_held_out: Tensor) -> Tensor:
    learned, held_out = is_known & ~is_held_out, is_known & is_held_out
    # NaN times zero is NaN, also in a gradient.
    error_db = error_db.masked_fill(~is_known, 0.0)
    huber = torch.nn.functional.huber_loss(error_db, torch.zeros_like(error_db), delta=0.25, reduction="none")
    # The spread follows the error and never drives it: a head that may call pictures hopeless does.
    likelihood = error_db.detach().abs() / spread_db + spread_db.log()
    return _mean(huber, learned) + SPREAD_WEIGHT * _mean(likelihood, held_out)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp_min(1)


@torch.no_grad()
def predictions(
    head: DistortionHead,
    curves: Curves,
    lengths: tuple[int, ...] = CANDIDATE_LENGTHS,
    true_lengths: tuple[int, ...] | None = None,
) -> Predictions:
    """What the head says at its lengths of curves measured at `true_lengths` (None: the same)."""
    measured = true_lengths or lengths
    linear = curves.at(places(lengths, measured)).linear_psnr_db
    columns = (*head(linear, curves.features, curves.blocks), curves.true_psnr_db)
    return Predictions(lengths, *map(_array, columns), measured)


def mean_absolute_error_db(found: Predictions) -> float:
    """Of the predicted curve, over pictures and lengths."""
    true_db = found.true_psnr_db[:, places(found.lengths, found.true_lengths)]
    return float(np.abs(found.psnr_db - true_db).mean())


def _array(values: Tensor) -> np.ndarray:
    return values.double().numpy()
