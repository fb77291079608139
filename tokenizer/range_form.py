"""Coefficients <-> range-coded tokens: the two sides of `embedded.scan`. Knows no network.

A stream is the class token of the fixed-rate form, then the bytes of the range coder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.contexts import ContextModel, ContextTables
from tokenizer.embedded import Answers, Indices, Oracle, State, Watch, max_excess, scan, threshold
from tokenizer.range_coder import HALF, ONE, BitReader, BitWriter
from tokenizer.spectral import SpectralLayout, block_size
from tokenizer.wavelet import Band, WaveletPyramid, pyramid

# Odds that a coefficient which was never asked lies one more octave beyond the threshold.
EXCESS_ODDS = ONE // 16
# What the byte at a cut leaves open, on average: a continuation may fall on either side of a border.
OPEN_BITS = 1.5
_COST_BITS = -np.log2(np.arange(1, ONE) / ONE)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What happened while a picture was encoded, event by event. Legend: E events."""

    at: NDArray[np.int64]
    """Coefficient of the pyramid, i64[E]."""
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
        self._model = ContextModel(tables)
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
        values = tree.forward(coefficients)
        wanted = values if reference is coefficients else tree.forward(reference)
        oracle = Encoder(values, wanted, max_tokens - 1, self.tables.fraction)
        self.scan(self.state(class_id, canvas), oracle)
        return RangeCoded(bytes((class_id,)) + oracle.writer.finish()[: max_tokens - 1], oracle.trace())

    def decode(self, tokens: bytes, canvas: Size) -> tuple[NDArray[np.float32], float]:
        """(DCT coefficients f32[3, bh, bw], expected squared error per pixel and colour) of any prefix."""
        state = self.read(tokens, canvas)
        found = np.flatnonzero(state.is_found)
        values = np.zeros(state.tree.size, np.float32)
        values[found] = state.values(found, self.tables.fraction)
        return state.tree.inverse(values), state.expected_error() / 3

    def read(self, tokens: bytes, canvas: Size) -> State:
        """All that a prefix settles; integers and powers of two, the same on any machine."""
        state = self.state(self.spectral.class_of(tokens), canvas)
        if len(tokens) > 1:
            self.scan(state, _Decoder(tokens[1:]))
        return state

    def scan(self, state: State, oracle: Oracle, watch: Watch | None = None) -> None:
        """Ask the oracle everything, as far as it has answers."""
        scan(state, self._model, self.tables, oracle, watch)

    def state(self, class_id: int, canvas: Size) -> State:
        """What is known of a picture of this class before the first bit."""
        return State(block_size(canvas), self._own_log(class_id, canvas))

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


class Encoder:
    """Answers from the picture, and writes each answer down."""

    def __init__(
        self,
        values: NDArray[np.float32],
        wanted: NDArray[np.float32],
        size_bytes: int,
        fraction: NDArray[np.float32],
    ) -> None:
        self.writer = BitWriter()
        self._values, self._magnitude = values, np.abs(values)
        self._wanted, self._size_bytes, self._fraction = wanted, size_bytes, fraction
        self._shown = np.zeros_like(values)
        self._events: list[tuple[NDArray[Any], ...]] = []

    def significance(self, state: State, at: Indices, odds: NDArray[np.int32], plane: int) -> Answers:
        """See Oracle."""
        if self.writer.size_bytes > self._size_bytes:
            return Answers(np.zeros(0, np.bool_), np.zeros(0, np.bool_), np.zeros(0, np.int64))
        magnitude = self._magnitude[at]
        is_new = magnitude >= threshold(plane)
        limit = max_excess(state, at, plane)
        octaves = np.floor(np.log2(np.maximum(magnitude, 1e-30) / threshold(plane))).astype(np.int64)
        excess = np.where(is_new, np.clip(octaves, 0, limit), 0)
        is_negative = self._values[at] < 0
        low = threshold(plane) * np.exp2(excess)
        shown = np.where(is_new, low * (1 + self._fraction[0]), 0)
        cost = self._write_significance(is_new, is_negative, excess, limit, odds)
        self._record(at, np.where(is_negative, -shown, shown).astype(np.float32), cost)
        return Answers(is_new, is_negative, excess)

    def _write_significance(
        self,
        is_new: NDArray[np.bool_],
        is_negative: NDArray[np.bool_],
        excess: NDArray[np.int64],
        limit: NDArray[np.int64],
        odds: NDArray[np.int32],
    ) -> NDArray[np.float64]:
        """Per coefficient: significant? then its sign, a bit per octave of excess, and one to end them."""
        steps = np.where(is_new, np.minimum(excess + 1, limit), 0)
        count = 1 + is_new + steps
        end = np.cumsum(count)
        start = end - count
        bits = np.ones(int(end[-1]) if len(end) else 0, np.int64)
        chance = np.full(len(bits), EXCESS_ODDS, np.int64)
        bits[start], chance[start] = is_new, odds
        signs = start[is_new] + 1
        bits[signs], chance[signs] = is_negative[is_new], HALF
        ended = is_new & (excess < limit)
        bits[end[ended] - 1] = 0
        self.writer.write(bits.tolist(), chance.tolist())
        cost = _COST_BITS[np.where(bits, chance, ONE - chance) - 1]
        return np.add.reduceat(cost, start) if len(start) else cost

    def refinement(self, state: State, at: Indices, odds: NDArray[np.int32]) -> NDArray[np.bool_]:
        """See Oracle."""
        if self.writer.size_bytes > self._size_bytes:
            return np.zeros(0, np.bool_)
        half = state.width[at] * np.float32(0.5)
        is_upper = self._magnitude[at] >= state.low[at] + half
        self.writer.write(is_upper.astype(np.int64).tolist(), odds.tolist())
        depth = np.minimum(state.refinements[at] + 1, len(self._fraction) - 1)
        magnitude = state.low[at] + np.where(is_upper, half, 0) + self._fraction[depth] * half
        cost = _COST_BITS[np.where(is_upper, odds, ONE - odds) - 1]
        self._record(at, np.where(state.is_negative[at], -magnitude, magnitude).astype(np.float32), cost)
        return is_upper

    def _record(self, at: Indices, shown: NDArray[np.float32], cost: NDArray[np.float64]) -> None:
        before = np.square((self._wanted[at] - self._shown[at]).astype(np.float64))
        after = np.square((self._wanted[at] - shown).astype(np.float64))
        self._shown[at] = shown
        self._events.append((at, cost, shown, before - after))

    def trace(self) -> Trace:
        """All events so far."""
        at, cost, value, gain = (np.concatenate(column) for column in zip(*self._events, strict=True))
        return Trace(at, np.cumsum(cost), value, gain)


class _Decoder:
    """Answers from bits, until they end."""

    def __init__(self, data: bytes) -> None:
        self._reader = BitReader(data)

    def significance(self, state: State, at: Indices, odds: NDArray[np.int32], plane: int) -> Answers:
        """See Oracle."""
        answers = []
        read = self._reader.read
        for chance, limit in zip(odds.tolist(), max_excess(state, at, plane).tolist(), strict=True):
            bit = read(chance)
            if bit == 0:
                answers.append((False, False, 0))
                continue
            answer = self._new_coefficient(limit) if bit else None
            if answer is None:
                break
            answers.append(answer)
        table = np.asarray(answers, np.int64).reshape(-1, 3)
        return Answers(table[:, 0] > 0, table[:, 1] > 0, table[:, 2])

    def _new_coefficient(self, limit: int) -> tuple[bool, bool, int] | None:
        """Sign and excess behind a significant answer; None where the stream does not settle them."""
        sign = self._reader.read(HALF)
        excess, more = 0, 1
        while sign is not None and excess < limit and more:
            step = self._reader.read(EXCESS_ODDS)
            if step is None:
                return None
            more = step
            excess += step
        return None if sign is None else (True, bool(sign), excess)

    def refinement(self, state: State, at: Indices, odds: NDArray[np.int32]) -> NDArray[np.bool_]:
        """See Oracle."""
        bits: list[int] = []
        for chance in odds.tolist():
            bit = self._reader.read(chance)
            if bit is None:
                break
            bits.append(bit)
        return np.asarray(bits, np.int64) > 0
