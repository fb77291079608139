"""How alike two pictures are, in numpy alone. Knows nothing of models, files or tokens.

Pictures are uint8 arrays [height, width, channels] with values 0..255. SSIM and MS-SSIM follow the
definitions of pytorch-msssim 1.0 (11-tap Gaussian window with sigma 1.5, no padding, mean over
channels), so that figures can be compared with those in the literature.

    PSNR     10 log10(255^2 / mean squared error)
    SSIM     Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity"
    MS-SSIM  Wang et al. 2003, "Multiscale structural similarity for image quality assessment"
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size

Picture = NDArray[np.uint8]
Plane = NDArray[np.float64]

DATA_RANGE = 255.0
WINDOW_TAPS = 11
WINDOW_SIGMA_PX = 1.5
# Stabilisers of Wang et al. 2004, equations 9 and 11: (K1 L)^2 and (K2 L)^2.
C1 = (0.01 * DATA_RANGE) ** 2
C2 = (0.03 * DATA_RANGE) ** 2
# Exponents per scale, fine to coarse: Wang et al. 2003, section 3.2.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Differences take four times the memory of a picture; in bands, a 50-megapixel photo needs no gigabyte.
_BAND_ROWS = 256
# The window must still fit after four halvings.
MS_SSIM_MIN_SIDE_PX = (WINDOW_TAPS - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1


def mse(a: Picture, b: Picture) -> float:
    """Mean squared error over all pixels and channels. Raises ValueError unless both are alike uint8 HWC."""
    _check_alike(a, b)
    bands = range(0, a.shape[0], _BAND_ROWS)
    return sum(_squared_error(a[row : row + _BAND_ROWS], b[row : row + _BAND_ROWS]) for row in bands) / a.size


def _squared_error(a: Picture, b: Picture) -> int:
    return int(np.square(a.astype(np.int32) - b).sum(dtype=np.int64))


def psnr_db(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio over all channels in dB; infinite for equal pictures.

    >>> black, dark = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8)
    >>> round(psnr_db(black, dark), 4)
    13.9794
    """
    error = mse(a, b)
    return math.inf if error == 0 else 10 * math.log10(DATA_RANGE**2 / error)


def ssim(a: Picture, b: Picture) -> float:
    """Structural similarity, 1.0 for equal pictures. Raises ValueError if a side is below 11 pixels."""
    _check_alike(a, b)
    _check_sides(a, WINDOW_TAPS)
    luminance, contrast = _similarity_maps(a.astype(np.float64), b.astype(np.float64))
    return float(np.mean(luminance * contrast))


def ms_ssim(a: Picture, b: Picture) -> float:
    """Structural similarity over five scales, 0..1. Raises ValueError if a side is below 161 pixels."""
    _check_alike(a, b)
    _check_sides(a, MS_SSIM_MIN_SIDE_PX)
    x, y = a.astype(np.float64), b.astype(np.float64)
    product = np.ones(a.shape[2])
    for weight in SCALE_WEIGHTS[:-1]:
        _, contrast = _similarity_maps(x, y)
        product *= _channel_means(contrast) ** weight
        x, y = _halve(x), _halve(y)
    luminance, contrast = _similarity_maps(x, y)
    product *= _channel_means(luminance * contrast) ** SCALE_WEIGHTS[-1]
    return float(np.mean(product))


def bits_per_pixel(size_bytes: int, size: Size) -> float:
    """Bits of a stream or file per pixel of its picture.

    >>> bits_per_pixel(1024, Size(256, 256))
    0.125
    """
    return 8 * size_bytes / size.area_px


def _check_alike(a: Picture, b: Picture) -> None:
    for name, picture in (("first", a), ("second", b)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.size == 0:
            raise ValueError(f"the {name} picture must be uint8 HWC, got {picture.dtype} {picture.shape}")
    if a.shape != b.shape:
        raise ValueError(f"pictures must have one shape, got {a.shape} and {b.shape}")


def _check_sides(picture: Picture, min_side_px: int) -> None:
    height_px, width_px, _ = picture.shape
    if min(height_px, width_px) < min_side_px:
        raise ValueError(f"both sides must be at least {min_side_px} pixels, got {width_px}x{height_px}")


def _similarity_maps(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The luminance and the contrast-structure term of SSIM at every window position."""
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x * mean_x
    variance_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1)
    contrast = (2 * covariance + C2) / (variance_x + variance_y + C2)
    return luminance, contrast


def _gaussian_taps() -> NDArray[np.float64]:
    offsets = np.arange(WINDOW_TAPS) - WINDOW_TAPS // 2
    taps = np.exp(-(offsets**2) / (2 * WINDOW_SIGMA_PX**2))
    return np.asarray(taps / taps.sum(), dtype=np.float64)


_TAPS = _gaussian_taps()


def _blur(plane: Plane) -> Plane:
    """The Gaussian window along both sides, valid positions only: each side gets 10 shorter."""
    rows, columns = plane.shape[0] - WINDOW_TAPS + 1, plane.shape[1] - WINDOW_TAPS + 1
    down = sum(tap * plane[i : i + rows] for i, tap in enumerate(_TAPS))
    return np.asarray(sum(tap * down[:, i : i + columns] for i, tap in enumerate(_TAPS)))


def _halve(plane: Plane) -> Plane:
    """Mean of 2x2 blocks. An odd side gets a leading zero that counts, as pytorch-msssim pads."""
    height_px, width_px, _ = plane.shape
    even = np.pad(plane, ((height_px % 2, 0), (width_px % 2, 0), (0, 0)))
    return np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)


def _channel_means(similarity: Plane) -> NDArray[np.float64]:
    """Mean per channel, not below 0: a negative similarity has no fractional power."""
    means: NDArray[np.float64] = np.maximum(similarity.mean(axis=(0, 1)), 0.0)
    return means
