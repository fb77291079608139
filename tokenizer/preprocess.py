"""Pixels of the source <-> pixels of the canvas: the only copy, used by serving and training alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenizer.canvas import Size


def resize(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """uint8 HWC -> uint8 HWC of another size: Lanczos-3, Pillow's, in both directions.

    Lanczos down and up was the best of nine resampler pairs for every codec that was measured.
    """
    if pixels.shape[:2] == (size.height_px, size.width_px):
        return pixels
    image = Image.fromarray(pixels).resize((size.width_px, size.height_px), Image.Resampling.LANCZOS)
    return np.asarray(image)


def to_model_input(canvases: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """uint8 HWC pictures of one size -> f32[B, 3, H, W], still 0..255."""
    return np.ascontiguousarray(np.stack(canvases).transpose(0, 3, 1, 2), dtype=np.float32)


def from_model_output(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """f32[B, 3, H, W] in 0..255 -> uint8[B, H, W, 3], rounded to nearest and clipped."""
    return np.ascontiguousarray(np.rint(images).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1))
