"""The linear codec that a model's training started from: its tables, its bits, and no network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokenizer import ImageTokenizer, Size
from tokenizer.image_tokenizer import Pixels
from tokenizer.preprocess import from_model_output
from tokenizer.spectral import block_size, dct_basis


class LinearTokenizer(ImageTokenizer):
    """Same streams as the model's, decoded by the inverse transform alone.

    That is the codec before training only while the model has no network before the transform.
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{super().name} (linear)"

    def _synthesize(self, streams: Sequence[bytes], canvas: Size) -> Pixels:
        tables, (bh, bw) = self.artifact.tables, block_size(canvas)
        vertical, horizontal = dct_basis(canvas.height_px, bh), dct_basis(canvas.width_px, bw)
        means = np.stack([self.layout.decode(tokens, canvas) for tokens in streams])
        planes = vertical.T @ means @ horizontal * np.float32(canvas.area_px**0.5)
        rgb = np.einsum("bkhw,kc->bchw", planes, tables.colour) + tables.mean_rgb[None, :, None, None]
        return from_model_output(rgb)
