"""The linear codec that a model's training started from: its tables, its bits, and no network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tokenizer import ImageTokenizer, Size, TokenSequence
from tokenizer.image_tokenizer import Pixels
from tokenizer.preprocess import from_model_output
from tokenizer.realism import Realism
from tokenizer.spectral import block_size, dct_basis


class LinearTokenizer(ImageTokenizer):
    """Same streams as the model's, decoded by the inverse transform alone.

    That is the codec before training only while the model has no network before the transform.
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{super().name} (linear)"

    def pictures(self, means: NDArray[np.float32], canvas: Size) -> Pixels:
        """Coefficients f32[B, 3, bh, bw] -> uint8[B, H, W, 3] at canvas size, by the inverse transform."""
        tables, (bh, bw) = self.artifact.tables, block_size(canvas)
        vertical, horizontal = dct_basis(canvas.height_px, bh), dct_basis(canvas.width_px, bw)
        planes = vertical.T @ means @ horizontal * np.float32(canvas.area_px**0.5)
        rgb = np.einsum("bkhw,kc->bchw", planes, tables.colour) + tables.mean_rgb[None, :, None, None]
        return from_model_output(rgb)

    def _synthesize(self, sequences: Sequence[TokenSequence], canvas: Size, realism: Realism) -> Pixels:
        return self.pictures(self.decoder_inputs(sequences, canvas)["means"], canvas)
