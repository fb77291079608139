"""Measured curves: what the decoder really does with each prefix of many pictures. Knows no head.

Everything runs through ONNX Runtime: what is measured is what ships, and a CPU does it three times as fast.
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
from tokenizer.halting import head_lengths, linear_psnr_db
from tokenizer.halting_features import block_features, picture_features
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import from_model_output, to_model_input
from tokenizer.quality import psnr_db
from tokenizer.spectral import SpectralLayout, block_size, dct_basis
from training.data import PictureSet

BATCH_SIZE = 8


@dataclass(frozen=True)
class Codec:
    """What turns pictures into tokens and back: two graphs and the layout between them."""

    layout: SpectralLayout
    encoder: OnnxSession
    decoder: OnnxSession


@dataclass(frozen=True)
class Curves:
    """Measured curves. Shapes: P pictures, L candidate lengths, S features, N blocks, K numbers of each."""

    linear_psnr_db: Tensor
    features: Tensor
    blocks: Tensor
    true_psnr_db: Tensor
    """NaN at lengths that were not decoded."""

    def __len__(self) -> int:
        return len(self.true_psnr_db)


def measure_curves(
    codec: Codec, pictures: PictureSet, canvas: Size, lengths: Sequence[int], every: int = 1
) -> Curves:
    """Encode pictures, and decode each at every `every`-th candidate length, in turns.

    Errors at neighbouring lengths are nearly the same, so a decode teaches more on another picture.
    """
    scaled = [min(n, codec.layout.max_tokens(canvas)) for n in head_lengths(tuple(lengths), canvas)]
    rows: list[tuple[np.ndarray, ...]] = []
    batches = pictures.centre_batches(BATCH_SIZE, canvas)
    steps = ceil(len(pictures) / BATCH_SIZE)
    for batch in track(batches, f"curves of {len(pictures)} pictures", total=steps):
        for pixels in batch:
            turn = len(rows) % every
            rows.append(_measure(codec, pixels, canvas, scaled, range(turn, len(scaled), every)))
    return Curves(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))


def _measure(
    codec: Codec, pixels: np.ndarray, canvas: Size, lengths: list[int], decoded: Sequence[int]
) -> tuple[np.ndarray, ...]:
    """One picture's row of every field of `Curves`."""
    layout, basis = codec.layout, _basis(canvas)
    out = codec.encoder.run(image=to_model_input([pixels]), **basis)
    coefficients, reference = out["coefficients"][0], out["reference"][0]
    class_id = layout.choose_class(coefficients, canvas)
    cells = layout.cells(coefficients, class_id, canvas)
    mse = layout.distortion(cells, reference, float(out["energy"][0]), class_id, canvas, lengths)
    tokens = layout.tokens(cells, class_id, canvas)
    true_db = np.full(len(lengths), np.nan, np.float32)
    for start in range(0, len(decoded), BATCH_SIZE):
        places = list(decoded[start : start + BATCH_SIZE])
        images = _decode(codec, [tokens[: lengths[place]] for place in places], canvas)
        true_db[places] = [min(psnr_db(pixels, image), 100.0) for image in images]
    features = picture_features(layout, reference, canvas, pixels)
    return linear_psnr_db(mse), features, block_features(pixels), true_db


def _decode(codec: Codec, streams: list[bytes], canvas: Size) -> np.ndarray:
    out = codec.decoder.run(
        means=np.stack([codec.layout.decode(tokens, canvas) for tokens in streams]),
        length=np.asarray([len(tokens) for tokens in streams], np.float32),
        expected_mse=np.asarray([codec.layout.expected_mse(t, canvas) for t in streams], np.float32),
        **_basis(canvas),
    )
    return from_model_output(out["image"])


def _basis(canvas: Size) -> dict[str, np.ndarray]:
    bh, bw = block_size(canvas)
    return {
        "vertical": dct_basis(canvas.height_px, bh),
        "horizontal": dct_basis(canvas.width_px, bw),
    }
