"""The linear KLT to compare with: one spectrum for all pictures, in place of a class per picture.

The DCT of the whole picture is the KLT of a stationary field, and the colour axes are the model's own KLT.
Variances, cells and bit order are fitted to the very pictures that are measured, which favours this coder.
A PCA of patches was not chosen: at 128 bytes a 256x256 picture has 4 bits per 16x16 patch, most of them spent
on the patches' means, so it would lose for a reason that has nothing to do with order.
Legend: G groups, P planes, as in `tokenizer.spectral`; the torch twin of the fit is `training.linear_codec`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.spectral import ONE, SpectralLayout, SpectralTables

Analysed = tuple[NDArray[np.float32], Size]
"""Coefficients f32[3, bh, bw] of one picture and its canvas."""
# Weight, in samples, of the model's own conditional mean: some fine cells hold almost no coefficient.
_PRIOR_SAMPLES = 8.0


def fit_fixed_spectrum(tables: SpectralTables, pictures: Sequence[Analysed]) -> SpectralLayout:
    """A layout with a single class, fitted to these pictures."""
    single = replace(tables, log_variance=_log_variance(tables, pictures))
    return SpectralLayout(_fit_cells(single, pictures))


def _log_variance(tables: SpectralTables, pictures: Sequence[Analysed]) -> NDArray[np.int16]:
    """Mean energy of each band, i16[1, 3, J, J]; where no canvas has the band, the mean of the classes."""
    layout = SpectralLayout(tables)
    energy = np.mean([layout.band_energy(*one) for one in pictures], axis=0)
    classes = tables.log_variance.mean(axis=0)
    fitted = np.where(energy > 0, np.log2(np.maximum(energy, 1e-30)) * ONE, classes)
    return np.round(fitted).clip(-32768, 32767).astype(np.int16)[None]


def _fit_cells(tables: SpectralTables, pictures: Sequence[Analysed]) -> SpectralTables:
    count, first, second = _moments(tables, pictures)
    mean = (first + _PRIOR_SAMPLES * tables.reconstruction) / (count + _PRIOR_SAMPLES)
    mean[:, 1] = 0.0  # nothing sent
    left = second - 2 * mean * first + mean**2 * count
    ends = [slice(2**p, 2 ** (p + 1)) for p in range(tables.num_planes + 1)]
    share = [left[:, end].sum(1) / np.maximum(count[:, end].sum(1), 1.0) for end in ends]
    distortion = np.stack(share, axis=1).astype(np.float32)
    return replace(
        tables, reconstruction=mean.astype(np.float32), distortion=distortion, gain=_gain(distortion)
    )


def _moments(tables: SpectralTables, pictures: Sequence[Analysed]) -> NDArray[np.float64]:
    """Number, sum and sum of squares of standardised coefficients in each cell, f64[3, G, 2**(P + 1)]."""
    layout, planes = SpectralLayout(tables), tables.num_planes
    shape = tables.reconstruction.shape
    moments = np.zeros((3, shape[0] * shape[1]))
    for coefficients, canvas in pictures:
        standard = (coefficients.reshape(-1) / layout.order(0, canvas).sigma).astype(np.float64)
        cell = np.searchsorted(tables.thresholds, standard, side="right")
        for plane in range(planes + 1):
            at = layout.groups(canvas) * shape[1] + (1 << plane) + (cell >> (planes - plane))
            for power in range(3):
                moments[power] += np.bincount(at, weights=standard**power, minlength=moments.shape[1])
    return moments.reshape(3, *shape)


def _gain(distortion: NDArray[np.float32]) -> NDArray[np.int16]:
    """log2 of what each plane removes, strictly falling so that planes come in order, i16[G, P]."""
    removed = np.maximum(-np.diff(distortion, axis=1), 2.0**-40)
    gain = np.round(np.log2(removed) * ONE).astype(np.int64)
    for plane in range(1, gain.shape[1]):
        gain[:, plane] = np.minimum(gain[:, plane], gain[:, plane - 1] - 1)
    return gain.astype(np.int16)
