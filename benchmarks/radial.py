"""Radial power spectrum of a picture's luma. Knows nothing of models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import Pixels

# ITU-R BT.601.
LUMA_OF_RGB = (0.299, 0.587, 0.114)
Plane = NDArray[np.float64]


def luma(pixels: Pixels) -> Plane:
    """uint8 HWC -> f64[H, W], 0..255."""
    plane: Plane = pixels.astype(np.float64) @ np.asarray(LUMA_OF_RGB)
    return plane


def radial_power(plane: Plane) -> Plane:
    """Power at 1, 2, 3, ... cycles per picture, summed over rings one cycle wide, all directions together.

    A Hann window keeps the borders from leaking into every frequency; the mean is removed before. On a
    picture that is not square a cycle is one per square root of its area. Ends at half the short side.
    """
    height_px, width_px = plane.shape
    window = np.outer(np.hanning(height_px + 2)[1:-1], np.hanning(width_px + 2)[1:-1])
    centred = plane - np.average(plane, weights=window)
    power = np.square(np.abs(np.fft.fft2(centred * window))) / plane.size
    vertical, horizontal = np.fft.fftfreq(height_px)[:, None], np.fft.fftfreq(width_px)[None]
    ring = np.rint(np.hypot(vertical, horizontal) * np.sqrt(plane.size)).astype(np.int64)
    last = int(min(height_px, width_px) / 2)
    rings: Plane = np.bincount(ring.reshape(-1), weights=power.reshape(-1))[1 : last + 1]
    return rings
