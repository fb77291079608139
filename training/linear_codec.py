"""Fit the linear embedded codec that training starts from: tables from statistics, no gradient.

    pictures → colour KLT → DCT bands' energies → spectrum classes (k-means, Itakura-Saito)
             → cells' conditional means and the distortion that each bit plane removes

Why classes: one static spectrum wastes bits on what a picture does not have. 128 classes, named by
one byte, give +0.2 dB at 24 bytes and +0.35 dB from 64 bytes on over one spectrum (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.spectral import (
    DEFAULT_BANDWIDTH,
    FRACTION_BITS,
    GROUP_EDGES,
    ONE,
    SpectralTables,
    coefficient_groups,
    dct_basis,
    knot_weights,
)

# Half-octave steps: each frequency by itself below 4, then ever wider bands.
KNOTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
# Knots for canvases above the default size; variances there are extrapolated, not fitted.
FAR_KNOTS = (192, 256, 384, 512, 768, 1024, 2048)
# Best of 1.5, 2.0, 2.5, 3.0 at every byte count (docs/log.md).
COMPANDER_WIDTH = 2.0
# Far below what 8-bit rounding leaves in a band (2**-20): a band that the canvas lacks, or that no picture
# fills, gets this and not a logarithm of 0.
MIN_VARIANCE = 2.0**-30
PROGRESS_LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)
Batches = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class LinearCodecConfig:
    """How the linear codec is fitted."""

    num_classes: int = 128
    num_planes: int = 10
    num_iterations: int = 25
    prior_pictures: float = 4.0
    """Weight of the overall spectrum, in pictures, when a class's spectrum is averaged."""
    cell_pictures: int = 1024
    """Pictures that the cells' means and distortions are measured on."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.num_classes <= 256:
            raise ValueError(f"a class is named by one byte: 1..256 classes, got {self.num_classes}")


def fit_linear_codec(batches: Batches, config: LinearCodecConfig, canvas: Size) -> SpectralTables:
    """Tables from pictures. `batches()` yields uint8[B, H, W, 3] at the canvas size, the same each time."""
    mean_rgb, colour = fit_colour(batches)
    analysis = _Analysis(mean_rgb, colour, canvas)
    energy = torch.cat([analysis.band_energy(batch) for batch in batches()]).clamp_min(MIN_VARIANCE)
    overall = energy.mean(0)
    weight = _class_weight(overall, analysis)
    spectra = _cluster(energy, overall, weight, config)
    tables = _assemble(mean_rgb, colour, spectra, weight, default_cells(config.num_planes))
    return fit_cells(tables, analysis, batches, config)


def coefficients_of(crop: np.ndarray, tables: SpectralTables, canvas: Size) -> np.ndarray:
    """DCT coefficients f32[3, bh, bw] of one uint8[H, W, 3] crop, as the encoder graph computes them."""
    (coefficients,) = _Analysis(tables.mean_rgb, tables.colour, canvas).coefficients(crop[None]).numpy()
    return coefficients


def fit_colour(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """Mean colour f32[3] and colour KLT f32[3, 3], rows by falling variance."""
    pixels = torch.cat([torch.from_numpy(b[:, ::8, ::8].reshape(-1, 3).copy()) for b in batches()]).double()
    mean = pixels.mean(0)
    _, vectors = torch.linalg.eigh((pixels - mean).T @ (pixels - mean) / len(pixels))
    rows = vectors.T.flip(0)
    # Not `sign`, which is 0 for an axis whose parts cancel: grey pictures have such axes.
    rows = torch.where(rows.sum(1, keepdim=True) < 0, -rows, rows)
    return mean.numpy().astype(np.float32), rows.numpy().astype(np.float32)


class _Analysis:
    """Pictures -> normalised coefficients of one canvas, in torch."""

    def __init__(self, mean_rgb: np.ndarray, colour: np.ndarray, canvas: Size) -> None:
        h, w, b = canvas.height_px, canvas.width_px, DEFAULT_BANDWIDTH
        self.canvas, self.scale = canvas, math.sqrt(canvas.area_px)
        self.mean, self.colour = torch.from_numpy(mean_rgb), torch.from_numpy(colour)
        self.vertical = torch.from_numpy(dct_basis(h, min(b, h)))
        self.horizontal = torch.from_numpy(dct_basis(w, min(b, w)))
        knots = np.asarray(KNOTS, np.int32)
        self.hat_v = torch.from_numpy(knot_weights(h, w, min(b, h), knots) / ONE).float()
        self.hat_h = torch.from_numpy(knot_weights(w, h, min(b, w), knots) / ONE).float()
        self.count = self.hat_v.sum(0)[:, None] * self.hat_h.sum(0)[None]

    def coefficients(self, batch: np.ndarray) -> Tensor:
        planes = torch.einsum(
            "nhwc,kc->nkhw", torch.from_numpy(batch.astype(np.float32)) - self.mean, self.colour
        )
        return self.vertical @ planes @ self.horizontal.T / self.scale

    def band_energy(self, batch: np.ndarray) -> Tensor:
        """Mean energy of each band, f32[B, 3, J, J]."""
        squares = self.coefficients(batch).square()
        return self.hat_v.T @ squares @ self.hat_h / self.count.clamp_min(1e-6)


def _class_weight(overall: Tensor, analysis: _Analysis) -> Tensor:
    """How much a band matters: each byte count spreads one vote over the coefficients it sends.

    A coefficient is sent where its variance is above the level that the byte count's bits reach.
    """
    variance = analysis.hat_v @ overall @ analysis.hat_h.T
    level = variance.reshape(-1).sort(descending=True).values
    votes = torch.zeros_like(variance)
    for length in PROGRESS_LENGTHS:
        # About 2.2 bits go to each sent coefficient, measured with the greedy order.
        active = variance >= level[min(len(level) - 1, int(8 * length / 2.2))]
        votes += active / active.sum()
    return analysis.hat_v.T @ votes @ analysis.hat_h


def _cluster(energy: Tensor, overall: Tensor, weight: Tensor, config: LinearCodecConfig) -> Tensor:
    """k-means of spectra under the Itakura-Saito divergence, f32[C, 3, J, J] of variances.

    Its centroid is the plain mean of energies (Banerjee et al., JMLR 2005), and it is the rate that a
    Gaussian coder of the wrong variance loses, so equal divergence means equal decibels lost.
    """
    generator = torch.Generator().manual_seed(config.seed)
    start = torch.randperm(len(energy), generator=generator)[: config.num_classes]
    spectra = 0.7 * energy[start] + 0.3 * overall
    for _ in range(config.num_iterations):
        chosen = _nearest(energy, spectra, overall, weight)
        spectra = torch.stack(
            [
                _centroid(energy[chosen == k], overall, weight, config.prior_pictures, spectra[k])
                for k in range(len(spectra))
            ]
        )
    return spectra


def _nearest(energy: Tensor, spectra: Tensor, overall: Tensor, weight: Tensor) -> Tensor:
    floor = 1e-3 * overall.reshape(-1)
    flat = spectra.reshape(len(spectra), -1)
    w = weight.reshape(-1)
    cost = (energy.reshape(len(energy), -1) + floor) @ (w / flat).T + (flat.log() @ w)[None]
    return cost.argmin(1)


def _centroid(members: Tensor, overall: Tensor, weight: Tensor, prior: float, before: Tensor) -> Tensor:
    """Mean energy, shrunk towards the overall spectrum scaled to the members' level."""
    if len(members) == 0:
        return before
    ratio = ((members + 1e-6 * overall) / overall).log().mean(0)
    level = torch.exp((ratio * weight).sum() / weight.sum())
    return (members.sum(0) + prior * level * overall) / (len(members) + prior)


def default_cells(num_planes: int) -> tuple[np.ndarray, np.ndarray]:
    """(thresholds f32[2**P - 1], cell middles f32[2**(P+1)]) of the Laplace compander."""
    scale = COMPANDER_WIDTH / math.sqrt(2)

    def inverse(p: np.ndarray) -> np.ndarray:
        return np.where(
            p < 0.5, scale * np.log(2 * np.minimum(p, 0.5)), -scale * np.log(2 * np.minimum(1 - p, 0.5))
        )

    middles = np.zeros(2 ** (num_planes + 1), np.float32)
    for planes in range(1, num_planes + 1):
        middles[2**planes : 2 ** (planes + 1)] = inverse((np.arange(2**planes) + 0.5) / 2**planes)
    return inverse(np.arange(1, 2**num_planes) / 2**num_planes).astype(np.float32), middles


def _assemble(
    mean_rgb: np.ndarray,
    colour: np.ndarray,
    spectra: Tensor,
    weight: Tensor,
    cells: tuple[np.ndarray, np.ndarray],
) -> SpectralTables:
    thresholds, middles = cells
    planes, groups = int(math.log2(len(middles))) - 1, len(GROUP_EDGES) + 1
    log_variance, class_weight = _extrapolate(spectra.log2().numpy(), weight.numpy())
    distortion = np.tile(0.3 ** np.arange(planes + 1, dtype=np.float32), (groups, 1))
    return SpectralTables(
        mean_rgb=mean_rgb,
        colour=colour,
        knots=np.asarray(KNOTS + FAR_KNOTS, np.int32),
        log_variance=np.round(log_variance * ONE).clip(-32768, 32767).astype(np.int16),
        gain=_gain(distortion),
        distortion=distortion,
        reconstruction=np.tile(middles, (groups, 1)),
        thresholds=thresholds,
        class_weight=class_weight,
    )


def _extrapolate(log_variance: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Continue spectra beyond the last knot at their own last slope, falling at least 1 octave per octave."""
    for _ in FAR_KNOTS:
        for axis in (2, 3):
            last = np.take(log_variance, [-1], axis)
            octave = last - np.take(log_variance, [-3], axis)
            log_variance = np.concatenate((log_variance, last + np.minimum(octave / 2, -0.5)), axis)
    far = len(FAR_KNOTS)
    return log_variance, np.pad(weight, ((0, 0), (0, far), (0, far))).astype(np.float32)


def fit_cells(
    tables: SpectralTables, analysis: _Analysis, batches: Batches, config: LinearCodecConfig
) -> SpectralTables:
    """Measure conditional means and distortions of every plane, given each picture's class."""
    planes = config.num_planes
    groups = torch.from_numpy(coefficient_groups(analysis.canvas).copy())
    sigma = _class_sigmas(tables, analysis)
    sums = torch.zeros(3, len(GROUP_EDGES) + 1, 2 ** (planes + 1), dtype=torch.float64)
    thresholds = torch.from_numpy(tables.thresholds)
    knots = len(KNOTS)
    spectra = torch.exp2(torch.from_numpy(tables.log_variance[:, :, :knots, :knots] / ONE)).float()
    weight = torch.from_numpy(tables.class_weight[:, :knots, :knots])
    for batch in _first(batches, config.cell_pictures):
        coefficients = analysis.coefficients(batch)
        energy = analysis.band_energy(batch)
        chosen = _nearest(energy, spectra, spectra.mean(0), weight)
        z = (coefficients.reshape(len(batch), -1) / sigma[chosen]).contiguous()
        cell = torch.bucketize(z, thresholds, right=True)
        for p in range(planes + 1):
            at = groups * 2 ** (planes + 1) + (1 << p) + (cell >> (planes - p))
            for moment, value in enumerate((torch.ones_like(z), z, z * z)):
                sums[moment].view(-1).index_add_(0, at.reshape(-1), value.double().reshape(-1))
    return replace(tables, **_cell_statistics(sums.numpy(), tables.reconstruction, planes))


def _first(batches: Batches, count: int) -> Iterator[np.ndarray]:
    """The batches that hold the first `count` pictures."""
    seen = 0
    for batch in batches():
        if seen >= count:
            return
        seen += len(batch)
        yield batch


def _class_sigmas(tables: SpectralTables, analysis: _Analysis) -> Tensor:
    knots = len(KNOTS)
    log_variance = torch.from_numpy(tables.log_variance[:, :, :knots, :knots] / ONE).float()
    return torch.exp2(0.5 * (analysis.hat_v @ log_variance @ analysis.hat_h.T)).flatten(1)


def _cell_statistics(sums: np.ndarray, middles: np.ndarray, planes: int) -> dict[str, np.ndarray]:
    """Conditional means, shrunk to the cell's middle by 8 samples; distortion left per plane."""
    count, first, second = sums
    mean = (first + 8.0 * middles) / (count + 8.0)
    mean[:, 1] = 0.0  # nothing sent: the decoder shows the mean colour
    left = second - 2 * mean * first + mean**2 * count
    distortion = np.stack(
        [
            left[:, 2**p : 2 ** (p + 1)].sum(1) / np.maximum(count[:, 2**p : 2 ** (p + 1)].sum(1), 1.0)
            for p in range(planes + 1)
        ],
        axis=1,
    ).astype(np.float32)
    return {
        "reconstruction": mean.astype(np.float32),
        "distortion": distortion,
        "gain": _gain(distortion),
    }


def _gain(distortion: np.ndarray) -> np.ndarray:
    """log2 of what each plane removes, strictly falling, so that planes come in order, i16[G, P]."""
    removed = np.maximum(-np.diff(distortion, axis=1), 2.0**-40)
    gain = np.round(np.log2(removed) * (1 << FRACTION_BITS)).astype(np.int64)
    for p in range(1, gain.shape[1]):
        gain[:, p] = np.minimum(gain[:, p], gain[:, p - 1] - 1)
    return gain.astype(np.int16)
