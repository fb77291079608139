"""Small photograph-like pictures from a seed: what the tests train and try on. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# How many of the tiny model's pictures each split has.
PICTURES_PER_SPLIT = {"train": 40, "validation": 4, "calibration": 4}


def picture(seed: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """uint8 HWC: a 1/f field in three correlated colours, with a few sharp-edged discs on it."""
    rng = np.random.default_rng((seed, width_px, height_px))
    grey = _field(rng, width_px, height_px)
    tint = np.stack([_field(rng, width_px, height_px) for _ in range(3)], axis=2)
    pixels = rng.uniform(70, 180, 3) + 45 * grey[..., None] + 14 * tint
    y, x = np.mgrid[0:height_px, 0:width_px]
    for _ in range(int(rng.integers(1, 5))):
        centre_y, centre_x = rng.uniform(0, height_px), rng.uniform(0, width_px)
        radius = rng.uniform(0.05, 0.3) * min(width_px, height_px)
        inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
        pixels[inside] = 0.3 * pixels[inside] + 0.7 * rng.uniform(0, 255, 3)
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _field(rng: np.random.Generator, width_px: int, height_px: int) -> NDArray[np.float64]:
    """White noise whose spectrum is made to fall as 1/f, with mean 0 and variance 1."""
    y, x = np.fft.fftfreq(height_px)[:, None], np.fft.fftfreq(width_px)[None]
    frequency = np.hypot(y, x)
    frequency[0, 0] = np.inf
    noise = np.fft.fft2(rng.standard_normal((height_px, width_px)))
    field = np.fft.ifft2(noise / frequency**1.3).real
    normalised: NDArray[np.float64] = (field - field.mean()) / max(field.std(), 1e-9)
    return normalised
