"""What the halting head is told of a picture besides its linear curve. Pure numpy, no model.

The linear error is exact, so only what the decoder network wins is to be predicted. It wins on structure
(edges, repeated texture) and not on noise, and does so locally: hence one row of numbers per block.
Legend: S numbers of the picture, N blocks of 16 x 16 pixels, K numbers per block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.products import one_thread_product
from tokenizer.spectral import SpectralLayout

BLOCK_PX = 16
LUMA = np.asarray((0.299, 0.587, 0.114), np.float32)  # BT.601
# Luma and two colour differences, one per column.
OPPONENT = np.stack((LUMA, (0.5, 0.0, -0.5), (-0.25, 0.5, -0.25)), axis=1).astype(np.float32)
# Energies below this, in squared 8-bit steps, are rounding noise.
FLOOR = 0.25

Plane = NDArray[np.float32]


def picture_features(
    layout: SpectralLayout,
    reference: NDArray[np.float32],
    canvas: Size,
    pixels: NDArray[np.uint8],
    coding: Coding,
) -> Plane:
    """Numbers of the whole picture, and the coding that its stream has, f32[S]."""
    is_range = np.asarray([coding is Coding.RANGE], np.float32)
    return np.concatenate((log_band_energy(layout, reference, canvas), log_structure(pixels), is_range))


def log_band_energy(layout: SpectralLayout, reference: NDArray[np.float32], canvas: Size) -> Plane:
    """log2 energy by colour plane and ring of frequencies, f32[3 * J]."""
    energy = layout.band_energy(reference, canvas)
    knots = energy.shape[1]
    ring = np.maximum(*np.indices((knots, knots)))
    rings = [np.bincount(ring.reshape(-1), plane.reshape(-1), knots) for plane in energy]
    flat: Plane = np.log2(np.stack(rings).reshape(-1) + 1e-4).astype(np.float32)
    return flat


def log_structure(pixels: NDArray[np.uint8]) -> Plane:
    """How unevenly detail is spread, f32[12]: for four scales, three means of the squared luma gradient.

    A spectrum cannot tell edges from noise of the same power, and the decoder network gains on edges.
    Where detail is sparse, the mean of logarithms lies far below the logarithm of the mean.
    """
    luma = pixels.astype(np.float32) @ LUMA
    features: list[float] = []
    for _ in range(4):
        corner = luma[:-1, :-1]
        energy = np.square(luma[1:, :-1] - corner)
        energy += np.square(luma[:-1, 1:] - corner)
        features += [
            float(np.log2(energy.mean() + 1.0)),
            float(2 * np.log2(np.sqrt(energy).mean() + 1.0)),
            float(np.log2(energy + 1.0).mean()),
        ]
        rows = luma[::2] + luma[1::2]
        luma = (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)
    return np.asarray(features, np.float32)


def block_features(pixels: NDArray[np.uint8]) -> Plane:
    """Numbers of each block of the canvas, f32[N, K]: Haar details of four scales, and the mean luma.

    Per scale: energy, its direction three ways (horizontal against vertical, diagonal against both, and
    coherence of the structure tensor, Bigun & Granlund 1987), how peaked it is, and colour energy.
    """
    planes = one_thread_product(pixels.reshape(-1, 3).astype(np.float32), OPPONENT).reshape(pixels.shape)
    luma, *colours = (np.ascontiguousarray(plane) for plane in np.moveaxis(planes, 2, 0))
    maps: list[Plane] = []
    side = BLOCK_PX
    while side > 1:
        side //= 2  # details of the next scale per block side
        luma, horizontal, vertical, diagonal = _haar(luma)
        maps += _luma_maps(horizontal, vertical, diagonal, side)
        details = [_haar(colour) for colour in colours]
        colours = [low for low, *_ in details]
        if side < BLOCK_PX // 2:  # the finest colour detail holds next to no energy in photographs
            maps += [_log_mean(np.square(h) + np.square(v), side) for _, h, v, _ in details]
    maps.append(luma * np.float32(1 / 64) - np.float32(2))
    return np.stack([one.reshape(-1) for one in maps], axis=1)


def _haar(plane: Plane) -> tuple[Plane, Plane, Plane, Plane]:
    """(mean, horizontal, vertical and diagonal difference) of each 2 x 2 pixels."""
    a, b, c, d = plane[::2, ::2], plane[::2, 1::2], plane[1::2, ::2], plane[1::2, 1::2]
    top, bottom, left, right = a + b, c + d, a - b, c - d
    half, quarter = np.float32(0.5), np.float32(0.25)
    return (top + bottom) * quarter, (left + right) * half, (top - bottom) * half, (left - right) * half


def _luma_maps(horizontal: Plane, vertical: Plane, diagonal: Plane, side: int) -> list[Plane]:
    h, v, d = (_block_mean(np.square(one), side) for one in (horizontal, vertical, diagonal))
    edges = h + v + FLOOR
    coherence = np.sqrt(np.square(h - v) + 4 * np.square(_block_mean(horizontal * vertical, side))) / edges
    maps = [
        np.log2(h + v + d + FLOOR),
        np.log2((h + FLOOR) / (v + FLOOR)),
        np.log2((2 * d + FLOOR) / edges),
        coherence,
    ]
    if side > 1:  # of a single value nothing can be peaked
        absolute = _block_mean(np.abs(horizontal) + np.abs(vertical), side)
        maps.append(np.log2(np.square(absolute + FLOOR) / edges))
    return maps


def _log_mean(energy: Plane, side: int) -> Plane:
    mean: Plane = np.log2(_block_mean(energy, side) + FLOOR)
    return mean


def _block_mean(plane: Plane, side: int) -> Plane:
    """Mean of each `side` x `side` values: whole rows first, then halves of what is left, which numpy does
    fastest. `side` is a power of two."""
    height, width = plane.shape
    total: Plane = plane.reshape(height // side, side, width).sum(1)
    while total.shape[1] > width // side:
        total = total[:, ::2] + total[:, 1::2]
    mean: Plane = total / np.float32(side * side)
    return mean
