"""Who answers the questions of the range coding: a picture, which writes its answers down, or a stream.

    encoder: coefficients → answer → bits, and what each answer changed (the trace)
    decoder: bits → answer, until the stream settles no more

Legend: n coefficients of the pyramid, E events.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokenizer.compiled import compiled
from tokenizer.range_coder import (
    ONE,
    OPEN,
    BitReader,
    BitWriter,
    Register,
    bit_reader,
    bit_writer,
    read_bit,
    register,
    write_bit,
)

# Odds that a coefficient which was never asked lies one more octave beyond the threshold.
EXCESS_ODDS = ONE // 16
# The stream has ended, or nobody would keep what is written.
NO_ANSWER = -128
# A refinement costs more bits than this while its odds are fitted to pictures.
_LEAST_BITS = 0.1


class Oracle(NamedTuple):
    """Either side of the wire, in one type, so that the scan is compiled once. Empty `values`: a decoder."""

    writer: BitWriter
    reader: BitReader
    values: NDArray[np.float32]
    """Coefficients of the pyramid, f32[n]."""
    wanted: NDArray[np.float32]
    """Coefficients against which errors count, f32[n]."""
    shown: NDArray[np.float32]
    """What they are reconstructed as, so far."""
    fraction: NDArray[np.float32]
    """Where between the ends of its interval a coefficient is put, after 0, 1, ... refinements."""
    spent: NDArray[np.float64]
    """Bits so far, f64[1]."""
    num_events: Register
    at: NDArray[np.int32]
    """Coefficient of each event, i32[E]; the next three have E places, too: see `range_form.Trace`."""
    bits: NDArray[np.float64]
    value: NDArray[np.float32]
    gain: NDArray[np.float64]


def encoder(
    values: NDArray[np.float32],
    wanted: NDArray[np.float32],
    size_bytes: int,
    fraction: NDArray[np.float32],
) -> Oracle:
    """Answers from a pyramid f32[n], until `size_bytes` are full."""
    most = len(values) + int(8 * (size_bytes + 8) / _LEAST_BITS)
    return _oracle(bit_writer(size_bytes), bit_reader(b""), values, wanted, fraction, most)


def decoder(data: bytes) -> Oracle:
    """Answers from a stream, until it ends."""
    nothing = np.zeros(0, np.float32)
    return _oracle(bit_writer(0), bit_reader(data), nothing, nothing, nothing, 0)


def _oracle(
    writer: BitWriter,
    reader: BitReader,
    values: NDArray[np.float32],
    wanted: NDArray[np.float32],
    fraction: NDArray[np.float32],
    most: int,
) -> Oracle:
    return Oracle(
        writer,
        reader,
        np.ascontiguousarray(values),
        np.ascontiguousarray(wanted),
        np.zeros_like(values),
        fraction,
        np.zeros(1),
        register(0),
        np.empty(most, np.int32),
        np.empty(most),
        np.empty(most, np.float32),
        np.empty(most),
    )


@compiled
def is_encoder(oracle: Oracle) -> bool:
    """Does a picture answer?"""
    return len(oracle.values) > 0


@compiled
def is_full(oracle: Oracle) -> bool:
    """Would nothing that is written from here on be kept?"""
    writer = oracle.writer
    return bool(writer.settled[0] >= len(writer.data)) or bool(oracle.num_events[0] >= len(oracle.at))


@compiled
def write_priced(oracle: Oracle, bit: bool, odds: int) -> None:
    """Write a bit, and count what it costs."""
    write_bit(oracle.writer, bit, odds)
    oracle.spent[0] -= np.log2((odds if bit else ONE - odds) / ONE)


@compiled
def note_event(oracle: Oracle, at: int, magnitude: float, is_negative: bool) -> None:
    """From now on the coefficient is shown with this magnitude."""
    value = np.float32(-magnitude if is_negative else magnitude)
    before = np.float64(oracle.wanted[at] - oracle.shown[at])
    after = np.float64(oracle.wanted[at] - value)
    event = oracle.num_events[0]
    oracle.shown[at] = value
    oracle.at[event] = at
    oracle.bits[event] = oracle.spent[0]
    oracle.value[event] = value
    oracle.gain[event] = before * before - after * after
    oracle.num_events[0] = event + 1


@compiled
def significance(oracle: Oracle, at: int, odds: int, threshold: float) -> int:
    """Does a coefficient reach the threshold? 1, 0, or NO_ANSWER."""
    if not is_encoder(oracle):
        bit = read_bit(oracle.reader, odds)
        return bit if bit != OPEN else NO_ANSWER
    if is_full(oracle):
        return NO_ANSWER
    is_new = abs(oracle.values[at]) >= threshold
    write_priced(oracle, is_new, odds)
    return 1 if is_new else 0


@compiled
def sign_and_size(oracle: Oracle, at: int, negative_odds: int, threshold: float, most_octaves: int) -> int:
    """Of a coefficient that reaches the threshold: +-(1 + octaves beyond it), of which there are at most so
    many, or NO_ANSWER."""
    if is_encoder(oracle):
        return write_sign_and_size(oracle, at, negative_odds, threshold, most_octaves)
    return read_sign_and_size(oracle.reader, negative_odds, most_octaves)


@compiled
def write_sign_and_size(
    oracle: Oracle, at: int, negative_odds: int, threshold: float, most_octaves: int
) -> int:
    """The answer of a picture: a bit for the sign, and one per octave until the first no."""
    is_negative = oracle.values[at] < 0
    write_priced(oracle, is_negative, negative_odds)
    octaves, low, is_beyond = 0, threshold, True
    while octaves < most_octaves and is_beyond:
        is_beyond = abs(oracle.values[at]) >= 2 * low
        write_priced(oracle, is_beyond, EXCESS_ODDS)
        if is_beyond:
            octaves += 1
            low *= 2
    note_event(oracle, at, low * (1 + oracle.fraction[0]), is_negative)
    return -1 - octaves if is_negative else 1 + octaves


@compiled
def read_sign_and_size(reader: BitReader, negative_odds: int, most_octaves: int) -> int:
    """The answer of a stream; none, where it does not settle all of its bits."""
    sign = read_bit(reader, negative_odds)
    octaves, more = 0, 1
    while sign != OPEN and octaves < most_octaves and more == 1:
        more = read_bit(reader, EXCESS_ODDS)
        octaves += more
    if sign == OPEN or more == OPEN:
        return NO_ANSWER
    return -1 - octaves if sign else 1 + octaves


@compiled
def upper_half(
    oracle: Oracle, at: int, odds: int, low: float, width: float, depth: int, is_negative: bool
) -> int:
    """Does a coefficient lie in the upper half of its interval? 1, 0, or NO_ANSWER.

    It will then be reconstructed at `fraction[depth]` of that half.
    """
    if not is_encoder(oracle):
        bit = read_bit(oracle.reader, odds)
        return bit if bit != OPEN else NO_ANSWER
    if is_full(oracle):
        return NO_ANSWER
    half = width / 2
    is_upper = abs(oracle.values[at]) >= low + half
    write_priced(oracle, is_upper, odds)
    note_event(oracle, at, (low + half if is_upper else low) + oracle.fraction[depth] * half, is_negative)
    return 1 if is_upper else 0
