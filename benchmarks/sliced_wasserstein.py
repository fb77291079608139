"""How far the textures of decoded pictures are from those of originals: sliced Wasserstein distance.

Karras et al. 2018 ("Progressive Growing of GANs", arXiv 1710.10196, section 5): a Laplacian pyramid, random
7x7 patches of each level, and the mean over random directions of the distance between the sorted projections.
Two things are ours, because here each picture has its original:
both sets are normalised by the mean and deviation of the originals (not each by its own, which would hide a
level that is missing), and patches are taken at the same places (so that equal sets have distance 0).

Legend: N pictures, D = 128 descriptors of each, a descriptor is 7 * 7 * 3 numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import Pixels

PATCH_PX = 7
DESCRIPTORS_PER_PICTURE = 128
# As in the paper: four times 128 directions.
DIRECTIONS = 512
MIN_SIDE_PX = 16
# Burt and Adelson's 5-tap filter.
_TAPS = np.array([1, 4, 6, 4, 1], np.float32) / 16
Floats = NDArray[np.float32]


class TextureDistance:
    """Distance of decoded pictures from their originals, per pyramid level. All pictures have one size."""

    def __init__(self, originals: Sequence[Pixels], seed: int = 0) -> None:
        self._places, self._directions = seed, _directions(seed)
        self.sides_px = pyramid_sides_px(originals[0])
        raw = self._descriptors(originals, seed)
        self._scales = [_mean_and_deviation(level) for level in raw]
        self._sorted = [self._project(level, scale) for level, scale in zip(raw, self._scales, strict=True)]

    def of(self, decoded: Sequence[Pixels], *, places_seed: int | None = None) -> list[float]:
        """Distance at each level, fine to coarse, in deviations of the originals.

        `places_seed` takes the patches at other places: what pictures of the very same textures would get.
        """
        raw = self._descriptors(decoded, self._places if places_seed is None else places_seed)
        projected = [self._project(level, scale) for level, scale in zip(raw, self._scales, strict=True)]
        return [float(np.abs(a - b).mean()) for a, b in zip(projected, self._sorted, strict=True)]

    def _descriptors(self, pictures: Sequence[Pixels], seed: int) -> list[Floats]:
        """Patches of each level, f32[N * D, 7, 7, 3] per level."""
        levels: list[list[Floats]] = [[] for _ in self.sides_px]
        for number, picture in enumerate(pictures):
            for depth, level in enumerate(laplacian_pyramid(picture, len(levels))):
                levels[depth].append(random_patches(level, np.random.default_rng((seed, number, depth))))
        return [np.concatenate(patches) for patches in levels]

    def _project(self, patches: Floats, scale: tuple[Floats, Floats]) -> Floats:
        """Normalised, projected and sorted along each direction, f32[N * D, directions]."""
        mean, deviation = scale
        flat = ((patches - mean) / deviation).reshape(len(patches), -1)
        projected: Floats = np.sort(flat @ self._directions, axis=0)
        return projected


def pyramid_sides_px(picture: Pixels) -> list[int]:
    """Short side of each level, halved down to 16 pixels."""
    sides = [min(picture.shape[:2])]
    while sides[-1] // 2 >= MIN_SIDE_PX:
        sides.append(sides[-1] // 2)
    return sides


def laplacian_pyramid(picture: Pixels, depth: int) -> list[Floats]:
    """What each halving takes away, then what is left, f32 HWC per level."""
    levels, current = [], picture.astype(np.float32)
    for _ in range(depth - 1):
        smaller = blur(current)[::2, ::2]
        levels.append(current - _enlarge(smaller, current.shape))
        current = smaller
    return [*levels, current]


def random_patches(level: Floats, rng: np.random.Generator) -> Floats:
    """128 patches at uniform places, f32[D, 7, 7, 3]."""
    windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH_PX, PATCH_PX), axis=(0, 1))
    rows = rng.integers(windows.shape[0], size=DESCRIPTORS_PER_PICTURE)
    columns = rng.integers(windows.shape[1], size=DESCRIPTORS_PER_PICTURE)
    return windows[rows, columns].transpose(0, 2, 3, 1)


def _mean_and_deviation(patches: Floats) -> tuple[Floats, Floats]:
    """Per colour channel; a level without any structure keeps its scale."""
    deviation = patches.std(axis=(0, 1, 2))
    return patches.mean(axis=(0, 1, 2)), np.where(deviation > 0, deviation, np.float32(1))


def _directions(seed: int) -> Floats:
    """Random unit vectors, f32[7 * 7 * 3, directions]."""
    directions = np.random.default_rng(seed).standard_normal((PATCH_PX * PATCH_PX * 3, DIRECTIONS))
    return (directions / np.linalg.norm(directions, axis=0)).astype(np.float32)


def blur(picture: Floats) -> Floats:
    """The filter along both sides, borders mirrored."""
    padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    rows, columns = picture.shape[:2]
    down = sum(tap * padded[i : i + rows] for i, tap in enumerate(_TAPS))
    blurred: Floats = np.asarray(sum(tap * down[:, i : i + columns] for i, tap in enumerate(_TAPS)))
    return blurred


def _enlarge(picture: Floats, shape: tuple[int, ...]) -> Floats:
    """Twice the size: zeros between the pixels, then the filter at four times its weight."""
    sparse = np.zeros(shape, np.float32)
    sparse[::2, ::2] = picture
    return 4 * blur(sparse)
