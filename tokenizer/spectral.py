"""The spectral token layout in numpy: DCT coefficients <-> one-byte tokens. Knows no network.

    coefficients c[3, bh, bw] of the colour-KLT planes, divided by sqrt(area)
      → token 0 names one of up to 256 spectrum classes (its variances and its bit order)
      → index = cell of an embedded quantizer, a Laplace CDF twice as wide as the class's sigma
      → bits in greedy order of expected squared-error reduction, eight to a token

Everything that decides the meaning of a bit is integer work on the tables, so any machine
agrees on it. Legend: C classes, J knots per axis, G groups of coefficients, P bit planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from tokenizer import falling_keys
from tokenizer.canvas import DEFAULT_AREA_PX, Size
from tokenizer.errors import ArtifactError
from tokenizer.products import one_thread_product

# Fixed-point fractions: log2-variance in 1/256 octave, frequency in 1/256 cycle, weights in 1/256.
FRACTION_BITS = 8
ONE = 1 << FRACTION_BITS
MAX_TOKENS_AT_DEFAULT_CANVAS = 2048
BITS_PER_TOKEN = 8
# Coefficients are grouped by the larger of their two frequencies; upper ends, in cycles.
GROUP_EDGES = (0.5, 2.5, 6.5, 16.5, 40.5)
# Frequencies beyond this many half-cycles are kept only on canvases larger than the default.
DEFAULT_BANDWIDTH = 128


@dataclass(frozen=True, slots=True, eq=False)
class SpectralTables:
    """All fitted numbers of the layout; saved in the artifact, frozen after export."""

    mean_rgb: NDArray[np.float32]
    """Mean colour, 0..255, f32[3]."""
    colour: NDArray[np.float32]
    """Orthonormal colour KLT, one basis vector per row, f32[3, 3]."""
    knots: NDArray[np.int32]
    """Frequencies in half-cycles per picture at which variances are given, i32[J], from 0."""
    log_variance: NDArray[np.int16]
    """log2 of the coefficient variance in 1/256 octave, i16[C, 3, J, J] (vertical, horizontal)."""
    gain: NDArray[np.int16]
    """log2 of the distortion (share of variance) that plane p removes, 1/256 octave, i16[G, P]."""
    distortion: NDArray[np.float32]
    """Share of the variance left after p planes, f32[G, P + 1]."""
    reconstruction: NDArray[np.float32]
    """Conditional mean in sigmas of cell k of p planes, at [2**p + k], f32[G, 2**(P + 1)]."""
    thresholds: NDArray[np.float32]
    """Borders of the finest cells in sigmas, increasing, f32[2**P - 1]."""
    class_weight: NDArray[np.float32]
    """How much each band counts when the class is chosen, f32[3, J, J]."""

    def __post_init__(self) -> None:
        """Raises ArtifactError: the planes of a coefficient come in order only if none is worth more."""
        rises = np.argwhere(np.diff(self.gain.astype(np.int64)) > 0)
        if len(rises):
            group, plane = rises[0].tolist()
            raise ArtifactError(
                f"gain of group {group} must not rise from plane to plane, but plane {plane + 1} has "
                f"{self.gain[group, plane + 1]} after {self.gain[group, plane]}"
            )

    @property
    def num_classes(self) -> int:
        """Number of spectrum classes C."""
        return int(self.log_variance.shape[0])

    @property
    def num_planes(self) -> int:
        """Number of bit planes P."""
        return int(self.gain.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class BitOrder:
    """What each bit after token 0 means for one class on one canvas. Legend: M = bits."""

    coefficient: NDArray[np.int32]
    """Flat index into [3, bh, bw], i32[M]."""
    plane: NDArray[np.int32]
    """Bit plane, 0 = sign, i32[M]; the planes of one coefficient come in order."""
    sigma: NDArray[np.float32]
    """Standard deviation of every coefficient, f32[3 * bh * bw]."""
    expected_mse: NDArray[np.float32]
    """Expected squared error per pixel (sum over colours) after each token, f32[max_tokens + 1]."""


def block_size(canvas: Size) -> tuple[int, int]:
    """(bh, bw): how many vertical and horizontal frequencies of a canvas can be sent.

    All of them up to 128 x 128 pixels, 128 half-cycles up to the default canvas, half of them beyond, each
    rounded up to a multiple of 32, or of 16 where the canvas has no more: the wavelet pyramid halves them.
    """
    return _bandwidth(canvas.height_px, canvas.width_px), _bandwidth(canvas.width_px, canvas.height_px)


def _bandwidth(along_px: int, across_px: int) -> int:
    wanted = min(along_px, max(along_px // 2, isqrt(DEFAULT_BANDWIDTH**2 * along_px // across_px)))
    in_32, in_16 = (-(-wanted // step) * step for step in (32, 16))
    return in_32 if in_32 <= along_px else in_16


def max_tokens(canvas: Size, num_planes: int) -> int:
    """How many tokens a stream can have: 2048, more on canvases above 256 x 256, fewer on tiny ones."""
    bh, bw = block_size(canvas)
    all_bits = 3 * bh * bw * num_planes
    by_area = MAX_TOKENS_AT_DEFAULT_CANVAS * canvas.area_px // DEFAULT_AREA_PX
    return min(1 + all_bits // BITS_PER_TOKEN, max(MAX_TOKENS_AT_DEFAULT_CANVAS, by_area))


@lru_cache(maxsize=64)
def dct_basis(length: int, count: int) -> NDArray[np.float32]:
    """First `count` rows of the orthonormal DCT-II of `length` samples, f32[count, length]."""
    k, x = np.arange(count)[:, None], np.arange(length)[None]
    basis = np.cos(np.pi * (2 * x + 1) * k / (2 * length)) * np.sqrt(2 / length)
    basis[0] /= np.sqrt(2)
    rows: NDArray[np.float32] = basis.astype(np.float32)
    return rows


def axis_frequencies(length_px: int, across_px: int, count: int) -> NDArray[np.int64]:
    """u * sqrt(across / length) of each frequency u of one axis, in 1/256, exact integers, i64[count].

    In these units a spectrum is the same for all aspects of one area.
    """
    freq = [isqrt((u * u * across_px << 2 * FRACTION_BITS) // length_px) for u in range(count)]
    return np.asarray(freq, np.int64)


def knot_weights(length_px: int, across_px: int, count: int, knots: NDArray[np.int32]) -> NDArray[np.int64]:
    """Linear interpolation weights between knots for each frequency of one axis, i64[count, J], sum 256."""
    freq = axis_frequencies(length_px, across_px, count)
    weights = np.zeros((count, len(knots)), np.int64)
    ends = knots.astype(np.int64) << FRACTION_BITS
    for u, f in enumerate(freq.tolist()):
        j = min(int(np.searchsorted(ends, f, side="right")) - 1, len(knots) - 2)
        right = min(ONE, ((f - int(ends[j])) << FRACTION_BITS) // int(ends[j + 1] - ends[j]))
        weights[u, j], weights[u, j + 1] = ONE - right, right
    return weights


def coefficient_groups(canvas: Size) -> NDArray[np.int64]:
    """Group of every coefficient by its larger frequency, i64[3 * bh * bw]."""
    bh, bw = block_size(canvas)
    v = axis_frequencies(canvas.height_px, canvas.width_px, bh)
    u = axis_frequencies(canvas.width_px, canvas.height_px, bw)
    edges = np.asarray(GROUP_EDGES) * ONE
    group = np.searchsorted(edges, np.maximum(v[:, None], u[None]))
    return np.broadcast_to(group, (3, bh, bw)).reshape(-1)


class SpectralLayout:
    """Coefficients <-> tokens for one set of tables; caches what depends on the canvas alone.

    Thread-safe: caches hold immutable values, and a lost race computes a value twice.
    """

    def __init__(self, tables: SpectralTables) -> None:
        self.tables = tables
        # 64 orders of 2048 tokens take about 40 MB; a class-canvas pair costs about 3 ms to rebuild.
        self.order = lru_cache(maxsize=64)(self._order)
        self._geometry = lru_cache(maxsize=16)(self._build_geometry)

    def max_tokens(self, canvas: Size) -> int:
        """Tokens of a whole stream on this canvas."""
        return max_tokens(canvas, self.tables.num_planes)

    def choose_class(self, coefficients: NDArray[np.float32], canvas: Size) -> int:
        """The class whose spectrum fits [3, bh, bw] best: least Itakura-Saito divergence per band."""
        geometry = self._geometry(canvas)
        energy = geometry.band_energy(coefficients)
        inverse, bias = geometry.class_costs(self.tables)
        return int(np.argmin(inverse @ energy.reshape(-1) + bias))

    def cells(self, coefficients: NDArray[np.float32], class_id: int, canvas: Size) -> NDArray[np.int64]:
        """Finest quantizer cell behind every bit of the stream, i64[M] in 0..2**P-1: comparisons only."""
        order = self.order(class_id, canvas)
        standard = coefficients.reshape(-1)[order.coefficient] / order.sigma[order.coefficient]
        return np.searchsorted(self.tables.thresholds, standard, side="right")

    def tokens(self, cells: NDArray[np.int64], class_id: int, canvas: Size) -> bytes:
        """All tokens: the class, then one bit of each cell in stream order, eight to a token."""
        order = self.order(class_id, canvas)
        bits = (cells >> (self.tables.num_planes - 1 - order.plane)) & 1
        return bytes((class_id,)) + np.packbits(bits.astype(np.uint8)).tobytes()

    def encode(self, coefficients: NDArray[np.float32], canvas: Size) -> bytes:
        """All tokens of coefficients f32[3, bh, bw]."""
        class_id = self.choose_class(coefficients, canvas)
        return self.tokens(self.cells(coefficients, class_id, canvas), class_id, canvas)

    def decode(self, tokens: bytes, canvas: Size) -> NDArray[np.float32]:
        """Conditional means f32[3, bh, bw] of any prefix; unsent coefficients are 0."""
        bh, bw = block_size(canvas)
        if len(tokens) < 2:
            return np.zeros((3, bh, bw), np.float32)
        order = self.order(self.class_of(tokens), canvas)
        bits = np.unpackbits(np.frombuffer(tokens, np.uint8, offset=1))
        return self.dequantize(bits, order, canvas).reshape(3, bh, bw)

    def dequantize(self, bits: NDArray[np.uint8], order: BitOrder, canvas: Size) -> NDArray[np.float32]:
        """Conditional means of the first bits of a stream, f32[3 * bh * bw]."""
        bits = bits[: len(order.coefficient)]
        at, plane = order.coefficient[: len(bits)], order.plane[: len(bits)]
        planes = np.bincount(at, minlength=len(order.sigma))
        value = bits.astype(np.int64) << (planes[at] - 1 - plane)
        cell = np.bincount(at, weights=value, minlength=len(order.sigma)).astype(np.int64)
        heap = (1 << planes) + cell
        # Plane 0 sent nothing: heap index 1, whose mean is 0 by construction.
        group = self._geometry(canvas).group
        means: NDArray[np.float32] = self.tables.reconstruction[group, heap] * order.sigma
        return means

    def distortion(
        self,
        cells: NDArray[np.int64],
        reference: NDArray[np.float32],
        energy: float,
        class_id: int,
        canvas: Size,
        lengths: Sequence[int],
    ) -> NDArray[np.float64]:
        """Exact squared error per pixel and colour of the linear decode at each length (Parseval).

        `reference` are the coefficients of the picture itself, `energy` its mean squared distance from
        the mean colour, summed over colours.
        """
        order, tables = self.order(class_id, canvas), self.tables
        at, plane = order.coefficient, order.plane
        sigma, group = order.sigma[at], self._geometry(canvas).group[at]
        target = reference.reshape(-1)[at]

        def error(planes: NDArray[np.int32]) -> NDArray[np.float32]:
            heap = (1 << planes) + (cells >> (tables.num_planes - planes))
            return np.square(target - sigma * tables.reconstruction[group, heap])

        removed = np.concatenate(([0.0], np.cumsum(error(plane) - error(plane + 1), dtype=np.float64)))
        sent = [min(BITS_PER_TOKEN * max(0, length - 1), len(at)) for length in lengths]
        left: NDArray[np.float64] = np.maximum(energy - removed[sent], 1e-6) / 3
        return left

    def class_of(self, tokens: bytes) -> int:
        """Class that token 0 names; numbers beyond the model's classes wrap, so every byte is legal."""
        return tokens[0] % self.tables.num_classes if tokens else 0

    def expected_mse(self, tokens: bytes, canvas: Size) -> float:
        """What the class's statistics expect of this prefix: squared error per pixel and colour."""
        expected = self.order(self.class_of(tokens), canvas).expected_mse
        return float(expected[min(len(tokens), len(expected) - 1)]) / 3

    def _order(self, class_id: int, canvas: Size) -> BitOrder:
        geometry, tables = self._geometry(canvas), self.tables
        log_variance = self.log_variance(class_id, canvas)
        gain = tables.gain.astype(np.int64) << 2 * FRACTION_BITS
        count = BITS_PER_TOKEN * (self.max_tokens(canvas) - 1)
        best = falling_keys.largest(log_variance, gain, geometry.group, count)
        coefficient, plane = np.divmod(best, tables.num_planes)
        variance = np.exp2(log_variance / float(ONE**3))
        removed = variance[coefficient] * -np.diff(tables.distortion)[geometry.group[coefficient], plane]
        per_token = removed.reshape(-1, BITS_PER_TOKEN).sum(1)
        expected = variance.sum() - np.concatenate(([0.0, 0.0], np.cumsum(per_token)))
        return BitOrder(
            coefficient.astype(np.int32),
            plane.astype(np.int32),
            np.sqrt(variance).astype(np.float32),
            np.maximum(expected, 1e-6).astype(np.float32),
        )

    def _build_geometry(self, canvas: Size) -> _Geometry:
        return _Geometry(canvas, self.tables)

    def log_variance(self, class_id: int, canvas: Size) -> NDArray[np.int64]:
        """log2 variance of every coefficient in 1/256**3 octave, i64[3 * bh * bw]."""
        return self._geometry(canvas).interpolate(self.tables.log_variance[class_id])

    def groups(self, canvas: Size) -> NDArray[np.int64]:
        """Statistics group of every coefficient, i64[3 * bh * bw]."""
        return self._geometry(canvas).group

    def band_energy(self, coefficients: NDArray[np.float32], canvas: Size) -> NDArray[np.float64]:
        """Mean energy per band, f64[3, J, J]; also the halting head's view of the spectrum."""
        return self._geometry(canvas).band_energy(coefficients)


class _Geometry:
    """Interpolation weights and groups of one canvas."""

    def __init__(self, canvas: Size, tables: SpectralTables) -> None:
        bh, bw = block_size(canvas)
        self.vertical = knot_weights(canvas.height_px, canvas.width_px, bh, tables.knots)
        self.horizontal = knot_weights(canvas.width_px, canvas.height_px, bw, tables.knots)
        self.group = coefficient_groups(canvas)
        count = np.outer(self.vertical.sum(0), self.horizontal.sum(0)) / ONE**2
        self.count = np.broadcast_to(count, tables.class_weight.shape)
        self._costs: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def interpolate(self, log_variance: NDArray[np.int16]) -> NDArray[np.int64]:
        """i16[3, J, J] at knots -> i64[3 * bh * bw], in 1/256**3 octave."""
        rows = np.einsum("uj,cjk->cuk", self.vertical, log_variance.astype(np.int64))
        flat: NDArray[np.int64] = np.einsum("vk,cuk->cuv", self.horizontal, rows).reshape(-1)
        return flat

    def band_energy(self, coefficients: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean energy around each knot, f64[3, J, J]; 0 where the canvas has no such frequency."""
        vertical, horizontal = self.vertical / ONE, self.horizontal / ONE
        rows = one_thread_product(vertical.T, np.square(coefficients, dtype=np.float64))
        total = one_thread_product(rows, horizontal)
        return total / np.maximum(self.count, 1e-9)

    def class_costs(self, tables: SpectralTables) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(weight / variance [C, 3JJ], weighted log variance [C]) of the bands that the canvas has."""
        if self._costs is None:
            log_variance = tables.log_variance.reshape(tables.num_classes, -1) / ONE
            weight = (tables.class_weight.astype(np.float64) * (self.count > 0)).reshape(-1)
            self._costs = (weight * np.exp2(-log_variance), np.log(2) * (log_variance @ weight))
        return self._costs
