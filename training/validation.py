"""Held-out pictures through the averaged model: PSNR per byte count, level usage, reconstruction sheet.

Shapes: N pictures, H W canvas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.model import AdaptiveTokenizer
from tokenizer.spectral import SpectralLayout
from training.evaluate import BYTE_COUNTS
from training.precision import autocast

SHEET_BYTES = (24, 64, 128, 512, 2048)
SHEET_PICTURES = 6
SHEET_TITLE = "original, " + ", ".join(map(str, SHEET_BYTES)) + " bytes"
LINE_BYTES = (24, 64, 128, 256, 512, 1024, 2048)
BATCH_SIZE = 8
USAGE_PLANES = 3


@dataclass(frozen=True)
class Validation:
    """Means over the held-out pictures. `psnr_db` and `linear_psnr_db` are by byte count."""

    psnr_db: dict[int, float]
    linear_psnr_db: dict[int, float]
    level_usage: dict[int, float]
    """By bit plane, from 1: entropy of the cells in use / entropy if all were used alike, at most 1."""

    @property
    def gain_db(self) -> dict[int, float]:
        """What the networks add to the linear codec, by byte count."""
        return {count: db - self.linear_psnr_db[count] for count, db in self.psnr_db.items()}

    def __str__(self) -> str:
        columns = [f"{n} {self.psnr_db[n]:.2f}/{self.linear_psnr_db[n]:.2f}" for n in LINE_BYTES]
        return "PSNR dB decoder/linear at bytes: " + " · ".join(columns)


@dataclass(frozen=True)
class _Encoded:
    """A batch after analysis: what is sent, what the linear codec would send, and its class."""

    image: Tensor
    coefficients: Tensor
    reference: Tensor
    classes: Tensor


class HeldOut:
    """Fixed pictures u8[N, H, W, 3] of one canvas, and what a model makes of them."""

    def __init__(self, pictures: np.ndarray, device: torch.device) -> None:
        self.pictures, self.device = pictures, device
        self.canvas = Size(pictures.shape[2], pictures.shape[1])

    @torch.no_grad()
    def validate(self, model: AdaptiveTokenizer) -> Validation:
        """Mean PSNR of 8-bit pictures at the standard byte counts, with and without the networks."""
        rows: dict[int, list[Tensor]] = {count: [] for count in BYTE_COUNTS}
        linear_rows: dict[int, list[Tensor]] = {count: [] for count in BYTE_COUNTS}
        usage = torch.zeros(USAGE_PLANES, 2**USAGE_PLANES, device=self.device)
        for batch in self._encoded(model, self.pictures):
            usage += self._level_counts(model, batch)
            for count in BYTE_COUNTS:
                decoded, linear = self._decode(model, batch, count)
                rows[count].append(_psnr_db(decoded, batch.image))
                linear_rows[count].append(_psnr_db(linear, batch.image))
        return Validation(_means(rows), _means(linear_rows), _evenness(usage))

    @torch.no_grad()
    def sheet(self, model: AdaptiveTokenizer) -> np.ndarray:
        """Originals in the first column, then the pictures at each of SHEET_BYTES, u8[H', W', 3]."""
        columns: list[list[Tensor]] = []
        for batch in self._encoded(model, self.pictures[:SHEET_PICTURES]):
            decoded = [self._decode(model, batch, count)[0] for count in SHEET_BYTES]
            columns.append([batch.image, *decoded])
        rows = [torch.cat(column).permute(0, 2, 3, 1) for column in zip(*columns, strict=True)]
        picture = torch.stack(rows, dim=2).flatten(2, 3).flatten(0, 1)
        return picture.to(torch.uint8).cpu().numpy()

    def _encoded(self, model: AdaptiveTokenizer, pictures: np.ndarray) -> Iterator[_Encoded]:
        layout, basis = SpectralLayout(model.tables), model.basis(self.canvas, self.device)
        for start in range(0, len(pictures), BATCH_SIZE):
            pixels = pictures[start : start + BATCH_SIZE].transpose(0, 3, 1, 2).copy()
            image = torch.from_numpy(pixels).to(self.device).float()
            with autocast(self.device):
                coefficients, reference, _ = model.analysis(image, *basis)
            classes = [layout.choose_class(c, self.canvas) for c in coefficients.float().cpu().numpy()]
            yield _Encoded(image, coefficients, reference, torch.tensor(classes, device=self.device))

    def _decode(self, model: AdaptiveTokenizer, batch: _Encoded, count: int) -> tuple[Tensor, Tensor]:
        """(8-bit pictures, those of the codec without networks) from the first `count` tokens."""
        vertical, horizontal = model.basis(self.canvas, self.device)
        quantizer = model.quantizer(self.canvas, self.device)
        length = torch.full_like(batch.classes, min(count, quantizer.max_tokens))
        shape = batch.coefficients.shape[1:]
        means = quantizer(batch.coefficients.flatten(1), batch.classes, length).unflatten(1, shape)
        plain = quantizer(batch.reference.flatten(1), batch.classes, length).unflatten(1, shape)
        expected = quantizer.expected_mse(batch.classes, length)
        with autocast(self.device):
            decoded = model.synthesis(means, length.float(), expected, vertical, horizontal)
        linear = model.synthesis.linear(plain, vertical, horizontal) + model.synthesis.mean
        return _to_8_bit(decoded), _to_8_bit(linear)

    def _level_counts(self, model: AdaptiveTokenizer, batch: _Encoded) -> Tensor:
        """How often each cell of the first planes is used by coefficients that are sent, f32[P, 2**P]."""
        quantizer = model.quantizer(self.canvas, self.device)
        whole = torch.full_like(batch.classes, quantizer.max_tokens)
        planes = quantizer.planes_sent(batch.classes, whole)
        cells = quantizer.cells(batch.coefficients.flatten(1), batch.classes)
        counts = torch.zeros(USAGE_PLANES, 2**USAGE_PLANES, device=self.device)
        for plane in range(1, USAGE_PLANES + 1):
            used = cells[planes >= plane] >> (quantizer.num_planes - plane)
            counts[plane - 1] = torch.bincount(used, minlength=2**USAGE_PLANES)
        return counts


def _to_8_bit(pixels: Tensor) -> Tensor:
    return pixels.float().round().clamp(0, 255)


def _psnr_db(decoded: Tensor, image: Tensor) -> Tensor:
    mse = (decoded - image).square().mean((1, 2, 3)).clamp_min(1e-6)
    return (10 * torch.log10(255.0**2 / mse)).clamp(max=100.0)


def _means(rows: dict[int, list[Tensor]]) -> dict[int, float]:
    return {count: float(torch.cat(values).mean()) for count, values in rows.items()}


def _evenness(counts: Tensor) -> dict[int, float]:
    """Entropy of each plane's cells in bits per bit: 1 if all are used alike, 0 if only one is."""
    usage = {}
    for plane, row in enumerate(counts, start=1):
        share = row / row.sum().clamp_min(1.0)
        usage[plane] = float(-torch.special.xlogy(share, share).sum() / np.log(2) / plane)
    return usage
