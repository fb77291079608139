"""Low frequencies of a picture <-> an orthonormal wavelet pyramid of them. Knows no bits.

Cosines of the whole canvas are the best basis for few bytes; beyond some hundred, bits belong where edges
are. So the DCT block is turned into samples of a smaller picture, and these into a pyramid:

    coefficients c[3, bh, bw] → samples → (low, across, down, diagonal) → ... → DCT of what is left

Each split is orthonormal, so squared error is the same on both sides (Parseval), and symmetric, so that it
needs no padding at the borders. It weighs a DCT's spectrum with a Butterworth half-band filter (Herley and
Vetterli 1993), whose order 3 to 4 did best of 2, 3, 4, 6 and Meyer's filter (docs/log.md).

Shapes: bh bw frequencies of the block, M one side of a band, n = 3 * bh * bw.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tokenizer.products import one_thread_product
from tokenizer.spectral import dct_basis

Number = TypeVar("Number", bound=np.generic)
FILTER_ORDER = 3.5
# 128 x 128 frequencies (a 256 x 256 canvas) leave 4 x 4 cosines below five splits.
MAX_SPLITS = 5


@dataclass(frozen=True, slots=True)
class Band:
    """One array of the pyramid in the flat vector of all coefficients."""

    depth: int
    """Splits between the band and the finest one: 0 = finest detail."""
    start: int
    shape: tuple[int, ...]
    """(3, rows, columns) of the cosines left over, (3, 3, rows, columns) of a detail band:
    colour plane, then orientation: 0 detail across, 1 detail down, 2 both."""

    @property
    def stop(self) -> int:
        """End in the flat vector."""
        return self.start + int(np.prod(self.shape))

    @property
    def is_cosine(self) -> bool:
        """True for the one band that no split divided further."""
        return len(self.shape) == 3


class WaveletPyramid:
    """The pyramid of one block size; immutable."""

    def __init__(self, block: tuple[int, int]) -> None:
        """`block` = (bh, bw), both multiples of 16."""
        self.block = block
        self.num_splits = MAX_SPLITS if all(side % 2**MAX_SPLITS == 0 for side in block) else MAX_SPLITS - 1
        self.bands = self._bands()

    def _bands(self) -> tuple[Band, ...]:
        rows, columns = (side >> self.num_splits for side in self.block)
        bands = [Band(self.num_splits, 0, (3, rows, columns))]
        for depth in reversed(range(self.num_splits)):
            bands.append(Band(depth, bands[-1].stop, (3, 3, rows, columns)))
            rows, columns = 2 * rows, 2 * columns
        return tuple(bands)

    @property
    def size(self) -> int:
        """Number of coefficients n."""
        return self.bands[-1].stop

    def views(self, flat: NDArray[Number]) -> list[NDArray[Number]]:
        """The bands of a flat vector, coarse to fine, without copying."""
        return [flat[band.start : band.stop].reshape(band.shape) for band in self.bands]

    def forward(self, coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
        """DCT coefficients f32[3, bh, bw] -> flat pyramid f32[n]."""
        low, basis = coefficients, cosine_split
        flat = np.empty(self.size, np.float32)
        for band in reversed(self.bands[1:]):
            rows, columns = band.shape[2:]
            both = _between(basis(rows), low, basis(columns).T)
            detail = flat[band.start : band.stop].reshape(band.shape)
            detail[:, 0], detail[:, 1] = both[:, :rows, columns:], both[:, rows:, :columns]
            detail[:, 2] = both[:, rows:, columns:]
            low, basis = both[:, :rows, :columns], split
        rows, columns = self.bands[0].shape[1:]
        rest = _between(dct_basis(rows, rows), low, dct_basis(columns, columns).T)
        flat[: self.bands[0].stop] = rest.reshape(-1)
        return flat

    def inverse(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """Flat pyramid f32[n] -> DCT coefficients f32[3, bh, bw]."""
        cosines, *details = self.views(flat)
        rows, columns = self.bands[0].shape[1:]
        low = _between(dct_basis(rows, rows).T, cosines, dct_basis(columns, columns))
        for detail, basis in zip(details, [split] * (len(details) - 1) + [cosine_split], strict=True):
            rows, columns = detail.shape[2:]
            top = np.concatenate((low, detail[:, 0]), axis=2)
            both = np.concatenate((top, np.concatenate((detail[:, 1], detail[:, 2]), axis=2)), axis=1)
            low = _between(basis(rows).T, both, basis(columns))
        return low


@lru_cache(maxsize=64)
def split(half: int) -> NDArray[np.float32]:
    """Orthonormal matrix f32[2M, 2M]: samples -> M low ones, then M of detail."""
    whole = 2 * half
    basis = _split_of_cosines(half) @ dct_basis(whole, whole).astype(np.float64)
    matrix: NDArray[np.float32] = basis.astype(np.float32)
    return matrix


@lru_cache(maxsize=64)
def cosine_split(half: int) -> NDArray[np.float32]:
    """The same from the samples' DCT f32[2M], so that the finest split needs no samples."""
    return _split_of_cosines(half).astype(np.float32)


def _split_of_cosines(half: int) -> NDArray[np.float64]:
    k = np.arange(2 * half)
    angle = np.pi * k / (4 * half)
    low_gain, high_gain = np.cos(angle) ** (2 * FILTER_ORDER), np.sin(angle) ** (2 * FILTER_ORDER)
    total = low_gain + high_gain
    at = np.pi * k * (np.arange(half)[:, None] + 0.5) / half
    low = np.sqrt(2 / half * low_gain / total) * np.cos(at)
    low[:, 0] = np.sqrt(1 / half)
    high = np.sqrt(2 / half * high_gain / total) * np.sin(at)
    return np.concatenate((low, high))


def _between(
    left: NDArray[np.float32], planes: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """left @ planes @ right, f32[3, M, N]."""
    return one_thread_product(one_thread_product(left, planes), right)


@lru_cache(maxsize=16)
def pyramid(block: tuple[int, int]) -> WaveletPyramid:
    """The pyramid of a block size, built once."""
    return WaveletPyramid(block)
