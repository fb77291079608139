"""Coefficients <-> range-coded tokens: the two sides of `embedded.scan`. Knows no network.

A stream is the class token of the fixed-rate form, then the bytes of the range coder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tokenizer.answers import Oracle, decoder, encoder
from tokenizer.canvas import Size
from tokenizer.contexts import ContextModel, ContextTables
from tokenizer.embedded import State, Watch, expected_error, new_state, num_planes, values, watch
from tokenizer.range_coder import finish
from tokenizer.scan import room, scan
from tokenizer.spectral import SpectralLayout, block_size
from tokenizer.wavelet import Band, WaveletPyramid, pyramid

# What the byte at a cut leaves open, on average: a continuation may fall on either side of a border.
OPEN_BITS = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What each answer changed while a picture was encoded. Legend: E events."""

    at: NDArray[np.int32]
    """Coefficient of the pyramid, i32[E]."""
    bits: NDArray[np.float64]
    """Bits spent up to and with the event, f64[E], the class token not counted."""
    value: NDArray[np.float32]
    """What the coefficient is reconstructed as from then on, f32[E]."""
    gain: NDArray[np.float64]
    """Squared error per pixel (sum over colours) that the event took away, f64[E]."""


@dataclass(frozen=True, slots=True, eq=False)
class RangeCoded:
    """A whole stream, and how it came about."""

    tokens: bytes
    trace: Trace

    def distortion(self, energy: float, lengths: Sequence[int]) -> NDArray[np.float64]:
        """Squared error per pixel and colour of the linear decode at each length (Parseval).

        `energy` = mean squared distance from the mean colour, summed over colours.
        """
        settled = np.asarray([8 * (length - 1) - OPEN_BITS for length in lengths])
        count = np.searchsorted(self.trace.bits, settled, side="right")
        removed = np.concatenate(([0.0], np.cumsum(self.trace.gain)))
        left: NDArray[np.float64] = np.maximum(energy - removed[count], 1e-6) / 3
        return left


class RangeLayout:
    """Range-coded tokens for one set of tables. Thread-safe: what it caches never changes."""

    def __init__(self, spectral: SpectralLayout, tables: ContextTables) -> None:
        self.spectral, self.tables = spectral, tables
        self._model = ContextModel.of(tables)
        self._own_log = lru_cache(maxsize=256)(self._build_own_log)

    def encode(
        self,
        coefficients: NDArray[np.float32],
        reference: NDArray[np.float32],
        class_id: int,
        canvas: Size,
        max_tokens: int,
    ) -> RangeCoded:
        """At most `max_tokens` tokens of DCT coefficients f32[3, bh, bw].

        `reference` are the coefficients of the picture itself, against which errors count.
        """
        tree = pyramid(block_size(canvas))
        flat = tree.forward(coefficients)
        # Without an encoder network they are the same numbers.
        wanted = flat if np.array_equal(reference, coefficients) else tree.forward(reference)
        oracle = encoder(flat, wanted, max_tokens - 1, self.tables.fraction)
        self.scan(self.state(class_id, canvas), oracle)
        return RangeCoded(bytes((class_id,)) + finish(oracle.writer), trace(oracle))

    def decode(self, tokens: bytes, canvas: Size) -> tuple[NDArray[np.float32], float]:
        """(DCT coefficients f32[3, bh, bw], expected squared error per pixel and colour) of any prefix."""
        state = self.read(tokens, canvas)
        found = np.flatnonzero(state.is_found)
        flat = np.zeros(len(state.is_found), np.float32)
        flat[found] = values(state, found, self.tables.fraction)
        return pyramid(block_size(canvas)).inverse(flat), expected_error(state) / 3

    def read(self, tokens: bytes, canvas: Size) -> State:
        """All that a prefix settles; integers and powers of two, the same on any machine."""
        state = self.state(self.spectral.class_of(tokens), canvas)
        if len(tokens) > 1:
            self.scan(state, decoder(tokens[1:]))
        return state

    def scan(self, state: State, oracle: Oracle, seen: Watch | None = None, seed: int = 0) -> bool:
        """Ask the oracle everything, as far as it has answers; True if there is nothing left to ask."""
        planes = num_planes(len(state.own_log))
        return scan(state, self._model, oracle, seen or watch(), room(len(state.own_log)), planes, seed)

    def state(self, class_id: int, canvas: Size) -> State:
        """What is known of a picture of this class before the first bit."""
        return new_state(block_size(canvas), self._own_log(class_id, canvas), self._model)

    def _build_own_log(self, class_id: int, canvas: Size) -> NDArray[np.int32]:
        return own_log(self.spectral.log_variance(class_id, canvas), pyramid(block_size(canvas)))


def own_log(log_variance: NDArray[np.int64], tree: WaveletPyramid) -> NDArray[np.int32]:
    """log2 sigma of every coefficient of the pyramid in 1/16 octave, i32[n].

    A band's is the mean over the frequencies it covers of `log_variance`, i64[3 * bh * bw] in 1/256^3 octave.
    """
    plane = log_variance.reshape(3, *tree.block)
    # Variance to sigma halves the logarithm: 2^24 / 16 * 2.
    return np.concatenate([_band_log(plane, band) for band in tree.bands]).astype(np.int32) >> 21


def _band_log(plane: NDArray[np.int64], band: Band) -> NDArray[np.int64]:
    rows, columns = band.shape[-2:]
    if band.is_cosine:
        return plane[:, :rows, :columns].reshape(-1)
    low_v, high_v, low_h, high_h = (
        np.s_[:rows],
        np.s_[rows : 2 * rows],
        np.s_[:columns],
        np.s_[columns : 2 * columns],
    )
    parts = [plane[:, low_v, high_h], plane[:, high_v, low_h], plane[:, high_v, high_h]]
    means = np.stack([part.sum((1, 2)) // (rows * columns) for part in parts], axis=1)
    return np.broadcast_to(means[..., None, None], band.shape).reshape(-1)


def trace(oracle: Oracle) -> Trace:
    """All that an encoder noted."""
    events = slice(int(oracle.num_events[0]))
    return Trace(oracle.at[events], oracle.bits[events], oracle.value[events], oracle.gain[events])
