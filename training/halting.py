"""Fit and calibrate the halting head: what it predicts against what the decoder really does.

pictures for the fit   → measured curves → PSNR and spread of each prefix
pictures for margins   → measured curves → margin scores (training/calibration.py)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.model.halting import DistortionHead, HeadSizes
from training.calibration import Predictions, margin_scores
from training.curves import Codec, Curves, measure_curves
from training.data import PictureSet

CANDIDATE_LENGTHS = (
    4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
)  # fmt: skip
COVERAGES = (0.5, 0.8, 0.9, 0.95, 0.99)
# Pictures of the fit are decoded at every third length.
FIT_EVERY = 3
NUM_MEMBERS = 3
# Blocks of each picture that a step of the fit looks at: half, so that none is learned by heart.
FIT_BLOCKS = 128
SPREAD_WEIGHT = 0.02


@dataclass(frozen=True)
class FittedHalting:
    """A head, its margin scores, and the curves that they were taken on."""

    head: DistortionHead
    margin_scores: dict[str, tuple[float, ...]]
    unseen: Curves
    facts: dict[str, float]


def fit_halting(codec: Codec, fit: PictureSet, unseen: PictureSet, canvas: Size) -> FittedHalting:
    """Fit a head on some pictures and calibrate it on others, which nothing has seen."""
    head = fit_head(measure_curves(codec, fit, canvas, CANDIDATE_LENGTHS, FIT_EVERY))
    curves = measure_curves(codec, unseen, canvas, CANDIDATE_LENGTHS)
    found = predictions(head, curves)
    facts = {
        "fitted_on": len(fit),
        "calibrated_on": len(unseen),
        "mean_absolute_error_db": round(mean_absolute_error_db(found), 4),
    }
    return FittedHalting(head, margin_scores(found, COVERAGES), curves, facts)


def fit_head(
    curves: Curves, steps: int = 2500, seed: int = 0, num_members: int = NUM_MEMBERS
) -> DistortionHead:
    """Huber fit on dB, and the Laplace likelihood of what it leaves; it starts as the linear curve itself."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = DistortionHead(
            HeadSizes(curves.linear_psnr_db.shape[1], curves.features.shape[1], curves.blocks.shape[2]),
            num_members,
        )
        head.linear.fit(curves.linear_psnr_db)
        head.features.fit(curves.features)
        head.blocks.fit(curves.blocks)
        optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
        for _ in range(steps):
            loss = _loss(head, curves, torch.randint(len(curves), (128,)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def _loss(head: DistortionHead, curves: Curves, pick: Tensor) -> Tensor:
    linear, true_db = curves.linear_psnr_db[pick], curves.true_psnr_db[pick]
    some = torch.randperm(curves.blocks.shape[1])[:FIT_BLOCKS]
    is_known = ~true_db.isnan()
    losses = []
    for gain, spread in head.each_member(linear, curves.features[pick], curves.blocks[pick][:, some]):
        error = (linear + gain - true_db)[is_known]
        known_spread = spread[is_known]
        # The spread follows the error and never drives it: a head that may call pictures hopeless does.
        likelihood = error.detach().abs() / known_spread + known_spread.log()
        huber = torch.nn.functional.huber_loss(error, torch.zeros_like(error), delta=0.25)
        losses.append(huber + SPREAD_WEIGHT * likelihood.mean())
    return torch.stack(losses).sum()


@torch.no_grad()
def predictions(head: DistortionHead, curves: Curves) -> Predictions:
    """What the head says of measured curves, beside the truth."""
    psnr_db, spread_db = head(curves.linear_psnr_db, curves.features, curves.blocks)
    return Predictions(CANDIDATE_LENGTHS, *map(_array, (psnr_db, spread_db, curves.true_psnr_db)))


def mean_absolute_error_db(found: Predictions) -> float:
    """Of the predicted curve, over pictures and lengths."""
    return float(np.abs(found.psnr_db - found.true_psnr_db).mean())


def _array(values: Tensor) -> np.ndarray:
    return values.double().numpy()
