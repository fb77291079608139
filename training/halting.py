"""Train and calibrate the halting head: what it predicts against what the decoder really does.

held-out pictures → curves: linear PSNR (exact), features, true PSNR (decoded)
  training split     → Huber fit of the head
  calibration split  → split-conformal margin per coverage (Papadopoulos et al. 2002)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.distortion import margin_growth
from tokenizer.halting import head_features, head_lengths, linear_psnr_db
from tokenizer.model import AdaptiveTokenizer, DistortionHead
from tokenizer.model.quantizer import EmbeddedQuantizer
from tokenizer.spectral import SpectralLayout
from training.data import PictureSet

CANDIDATE_LENGTHS = (
    4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
)  # fmt: skip
BATCH_SIZE = 8
COVERAGES = (0.5, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Curves:
    """Measured curves. Shapes: N pictures, L candidate lengths, S features."""

    linear_psnr_db: Tensor
    features: Tensor
    true_psnr_db: Tensor


@torch.no_grad()
def measure_curves(
    model: AdaptiveTokenizer, pictures: PictureSet, canvas: Size, lengths: Sequence[int]
) -> Curves:
    """Encode and decode pictures at every candidate length."""
    layout = SpectralLayout(model.tables)
    device = next(model.synthesis.parameters()).device
    vertical, horizontal = model.basis(canvas, device)
    quantizer = model.quantizer(canvas, device)
    scaled = [min(n, quantizer.max_tokens) for n in head_lengths(tuple(lengths), canvas)]
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    batches = pictures.centre_batches(BATCH_SIZE, canvas)
    steps = ceil(len(pictures) / BATCH_SIZE)
    for batch in track(batches, f"curves of {len(pictures)} pictures", total=steps):
        image = torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()).to(device).float()
        coefficients, reference, energy = model.analysis(image, vertical, horizontal)
        classes = [layout.choose_class(c, canvas) for c in coefficients.cpu().numpy()]
        class_B = torch.tensor(classes, device=device)
        true = [
            _psnr(model, quantizer, coefficients, class_B, n, vertical, horizontal, image) for n in scaled
        ]
        for i, class_id in enumerate(classes):
            ref = reference[i].cpu().numpy()
            cells = layout.cells(coefficients[i].cpu().numpy(), class_id, canvas)
            mse = layout.distortion(cells, ref, float(energy[i]), class_id, canvas, scaled)
            true_db = torch.stack(true)[:, i].numpy()
            rows.append((linear_psnr_db(mse), head_features(layout, ref, canvas, batch[i]), true_db))
    return Curves(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))


def _psnr(
    model: AdaptiveTokenizer,
    quantizer: EmbeddedQuantizer,
    coefficients: Tensor,
    class_B: Tensor,
    length: int,
    vertical: Tensor,
    horizontal: Tensor,
    image: Tensor,
) -> Tensor:
    """PSNR in dB of the 8-bit pictures that `length` tokens decode to, f32[B]."""
    length_B = torch.full_like(class_B, length)
    means = quantizer(coefficients.flatten(1), class_B, length_B).unflatten(1, coefficients.shape[1:])
    expected = quantizer.expected_mse(class_B, length_B)
    with torch.autocast(image.device.type, torch.bfloat16):
        decoded = model.synthesis(means, length_B.float(), expected, vertical, horizontal)
    mse = (decoded.float().round().clamp(0, 255) - image).square().mean((1, 2, 3)).clamp_min(1e-6)
    return (10 * torch.log10(255.0**2 / mse)).clamp(max=100.0).cpu()


def fit_head(curves: Curves, steps: int = 3000, seed: int = 0) -> DistortionHead:
    """Huber fit on dB; it starts as the linear curve itself."""
    torch.manual_seed(seed)
    head = DistortionHead(curves.linear_psnr_db.shape[1], curves.features.shape[1])
    inputs = torch.cat((curves.linear_psnr_db, curves.features), dim=1)
    head.mean.copy_(inputs.mean(0))
    head.std.copy_(inputs.std(0).clamp_min(1e-2))
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for _ in range(steps):
        pick = torch.randint(len(curves.true_psnr_db), (128,))
        predicted = head(curves.linear_psnr_db[pick], curves.features[pick])
        loss = torch.nn.functional.huber_loss(predicted, curves.true_psnr_db[pick], delta=0.25)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


@torch.no_grad()
def conformal_margins(head: DistortionHead, curves: Curves) -> dict[str, float]:
    """Margin per coverage: the finite-sample quantile of (predicted - true PSNR) / growth, worst length.

    Taken per length over pictures, so the promise holds whichever length a target picks.
    """
    growth = np.asarray([margin_growth(length) for length in CANDIDATE_LENGTHS])
    excess = (head(curves.linear_psnr_db, curves.features) - curves.true_psnr_db).numpy() / growth
    count = len(excess)
    margins = {}
    for coverage in COVERAGES:
        rank = min(count, ceil((count + 1) * coverage)) - 1
        margins[str(coverage)] = round(float(np.sort(excess, axis=0)[rank].max()), 4)
    return margins


@torch.no_grad()
def head_error_db(head: DistortionHead, curves: Curves) -> float:
    """Mean absolute error of the predicted curve."""
    return float((head(curves.linear_psnr_db, curves.features) - curves.true_psnr_db).abs().mean())
