"""A spectral codec without a fit: tables by formula, and the transforms around them in plain numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.spectral import SpectralTables, block_size, dct_basis

NUM_CLASSES, NUM_PLANES, NUM_GROUPS = 3, 4, 6
KNOTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


def formula_tables() -> SpectralTables:
    """Tables of integers and powers of two: the same on every machine, with no training behind them.

    Three classes of a falling spectrum: alike in both directions, finer along x, finer along y.
    """
    j = np.arange(len(KNOTS))
    vertical, horizontal = j[:, None], j[None, :]
    shapes = [
        256 * np.maximum(vertical, horizontal) * 2,
        512 * vertical + 256 * horizontal,
        256 * vertical + 512 * horizontal,
    ]
    planes = np.asarray([0, 1, 2])[:, None, None]
    log_variance = np.stack([2560 - 1024 * planes - shape[None] for shape in shapes])
    p = np.arange(NUM_PLANES)
    return SpectralTables(
        mean_rgb=np.asarray([120, 116, 104], np.float32),
        colour=np.eye(3, dtype=np.float32),
        knots=np.asarray(KNOTS, np.int32),
        log_variance=log_variance.astype(np.int16),
        gain=np.tile(-448 * p - 64, (NUM_GROUPS, 1)).astype(np.int16),
        distortion=np.tile(4.0 ** -np.arange(NUM_PLANES + 1), (NUM_GROUPS, 1)).astype(np.float32),
        reconstruction=np.tile(_cell_middles(), (NUM_GROUPS, 1)),
        thresholds=(np.arange(1, 2**NUM_PLANES) / 2 - 4).astype(np.float32),
        class_weight=np.ones((3, len(KNOTS), len(KNOTS)), np.float32),
    )


def _cell_middles() -> NDArray[np.float32]:
    """Middles of 2**p equal cells over -4..4 sigmas, at [2**p + k]."""
    middles = np.zeros(2 ** (NUM_PLANES + 1), np.float32)
    for p in range(1, NUM_PLANES + 1):
        middles[2**p : 2 ** (p + 1)] = (np.arange(2**p) + 0.5) * 8 / 2**p - 4
    return middles


def analyse(
    pixels: NDArray[np.uint8], tables: SpectralTables
) -> tuple[NDArray[np.float32], float, NDArray[np.float64]]:
    """uint8 HWC at canvas size -> (coefficients f32[3, bh, bw], energy, pixels minus mean f64[H, W, 3])."""
    centred = pixels.astype(np.float64) - tables.mean_rgb
    vertical, horizontal = _basis(Size(pixels.shape[1], pixels.shape[0]))
    planes = np.einsum("hwc,kc->khw", centred, tables.colour)
    coefficients = vertical @ planes @ horizontal.T / np.sqrt(centred.shape[0] * centred.shape[1])
    return coefficients.astype(np.float32), float(np.square(centred).mean((0, 1)).sum()), centred


def synthesise(means: NDArray[np.float32], canvas: Size, tables: SpectralTables) -> NDArray[np.float64]:
    """Conditional means f32[3, bh, bw] -> pixels minus mean f64[H, W, 3]."""
    vertical, horizontal = _basis(canvas)
    planes = vertical.T @ means.astype(np.float64) @ horizontal * np.sqrt(canvas.area_px)
    return np.einsum("khw,kc->hwc", planes, tables.colour)


def random_coefficients(sigma: NDArray[np.float32], shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Laplace-distributed coefficients f32[3, bh, bw], a few of them far out in the tails."""
    rng = np.random.default_rng(seed)
    standard = rng.laplace(scale=0.7, size=len(sigma))
    standard[rng.integers(0, len(sigma), 20)] *= 30
    return (standard * sigma).astype(np.float32).reshape(3, *shape)


def _basis(canvas: Size) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bh, bw = block_size(canvas)
    return (
        dct_basis(canvas.height_px, bh).astype(np.float64),
        dct_basis(canvas.width_px, bw).astype(np.float64),
    )
