"""Held-out pictures through a register model: PSNR per byte count, use of levels, reconstruction sheet.

Shapes: N pictures, H W canvas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.model.register_tokenizer import RegisterTokenizer
from training.evaluate import BYTE_COUNTS
from training.precision import autocast
from training.validation import BATCH_SIZE, SHEET_PICTURES

SHEET_BYTES = (8, 24, 64, 128, 256)
LINE_BYTES = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class RegisterValidation:
    """Means over the held-out pictures, by byte count."""

    psnr_db: dict[int, float]
    mean_colour_psnr_db: float
    level_usage: dict[int, float]
    """By FSQ dimension, from 1: entropy of its levels / entropy if all were used alike, at most 1."""

    @property
    def gain_db(self) -> dict[int, float]:
        """What the tokens add to the mean colour, by byte count."""
        return {count: db - self.mean_colour_psnr_db for count, db in self.psnr_db.items()}

    def __str__(self) -> str:
        columns = [f"{n} {self.psnr_db[n]:.2f}" for n in LINE_BYTES if n in self.psnr_db]
        return f"PSNR dB at bytes: 0 {self.mean_colour_psnr_db:.2f} · " + " · ".join(columns)


class RegisterHeldOut:
    """Fixed pictures u8[N, H, W, 3] of one canvas, and what a register model makes of them."""

    def __init__(self, pictures: np.ndarray, device: torch.device) -> None:
        self.pictures, self.device = pictures, device
        self.canvas = Size(pictures.shape[2], pictures.shape[1])

    @torch.no_grad()
    def validate(self, model: RegisterTokenizer) -> RegisterValidation:
        """Mean PSNR of 8-bit pictures at the standard byte counts that this model has."""
        counts = [n for n in sorted({*BYTE_COUNTS, *LINE_BYTES}) if n <= model.config.max_tokens]
        rows: dict[int, list[Tensor]] = {count: [] for count in counts}
        plain, ids = [], []
        for start in range(0, len(self.pictures), BATCH_SIZE):
            image = self._image(slice(start, start + BATCH_SIZE))
            batch_ids = self._encode(model, image)
            ids.append(batch_ids)
            for count in counts:
                rows[count].append(_psnr_db(self._decode(model, batch_ids, count), image))
            plain.append(_psnr_db(model.synthesis.mean, image))
        means = {count: float(torch.cat(values).mean()) for count, values in rows.items()}
        return RegisterValidation(means, float(torch.cat(plain).mean()), _usage(model, torch.cat(ids)))

    @torch.no_grad()
    def sheet(self, model: RegisterTokenizer) -> np.ndarray:
        """Originals in the first column, then the pictures at each of SHEET_BYTES, u8[H', W', 3]."""
        image = self._image(slice(SHEET_PICTURES))
        ids = self._encode(model, image)
        columns = [image, *(self._decode(model, ids, count) for count in SHEET_BYTES)]
        picture = torch.stack([c.permute(0, 2, 3, 1) for c in columns], dim=2).flatten(2, 3).flatten(0, 1)
        return picture.to(torch.uint8).cpu().numpy()

    def _image(self, rows: slice) -> Tensor:
        return torch.from_numpy(self.pictures[rows].transpose(0, 3, 1, 2).copy()).to(self.device).float()

    def _encode(self, model: RegisterTokenizer, image: Tensor) -> Tensor:
        with autocast(self.device):
            _, ids = model.analysis(image, model.positions(self.canvas, self.device))
        return ids

    def _decode(self, model: RegisterTokenizer, ids: Tensor, count: int) -> Tensor:
        kept = model.kept_registers(torch.full((len(ids),), count, device=self.device))
        with autocast(self.device):
            decoded = model.synthesis(ids, kept, model.positions(self.canvas, self.device))
        return decoded.float().round().clamp(0, 255)


def _psnr_db(decoded: Tensor, image: Tensor) -> Tensor:
    mse = (decoded - image).square().mean((1, 2, 3)).clamp_min(1e-6)
    return (10 * torch.log10(255.0**2 / mse)).clamp(max=100.0)


def _usage(model: RegisterTokenizer, ids: Tensor) -> dict[int, float]:
    usage = {}
    digits = model.synthesis.quantizer.indices_to_level_indices(ids).flatten(0, -2).long()
    for dimension, levels in enumerate(model.config.levels):
        share = torch.bincount(digits[:, dimension], minlength=levels) / len(digits)
        usage[dimension + 1] = float(-torch.special.xlogy(share, share).sum() / np.log(levels))
    return usage
