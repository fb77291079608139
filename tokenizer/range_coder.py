"""A binary arithmetic coder whose every prefix can be read: bits and their odds <-> bytes. Knows no pictures.

An interval [low, low + range) of 48 bits is split by the odds of each bit (Martin 1979; the byte-wise
renormalisation and carry are those of LZMA's coder). All integers, so any machine agrees.

What ordinary range coders lack: the reader knows which bits a cut stream still settles. Beyond the last byte
the code could be anything, so a bit counts only if every continuation of the stream gives the same one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokenizer.compiled import compiled

PROBABILITY_BITS = 16
ONE = 1 << PROBABILITY_BITS
HALF = ONE >> 1
# What a reader answers where the stream ends before the bit is settled.
OPEN = -1
_TOP = 1 << 48
# Below this the range is widened by a byte: 24 bits then stay above the probability's 16.
_BOTTOM = 1 << 40
_BYTE = 8

Register = NDArray[np.int64]
"""i64[1]: compiled code changes it in place."""


class BitWriter(NamedTuple):
    """Bits in, bytes out: as many as have room."""

    data: NDArray[np.uint8]
    low: Register
    range: Register
    cache: Register
    """The last byte, settled but for a carry; -1 before the first one."""
    pending: Register
    """How many 0xFF lie behind `cache`: a carry would ripple through them."""
    settled: Register
    """Bytes that nothing can change any more, those without room counted."""


class BitReader(NamedTuple):
    """Bytes in, bits out, as far as the bytes settle them."""

    data: NDArray[np.uint8]
    code: Register
    range: Register
    unknown: Register
    """The code lies in [code, code + unknown]: missing bytes count as all 0 up to all 1."""
    next: Register


def register(value: int) -> Register:
    """A number that compiled code can change."""
    return np.full(1, value, np.int64)


def bit_writer(size_bytes: int) -> BitWriter:
    """A writer that keeps the first `size_bytes`."""
    return BitWriter(np.zeros(size_bytes, np.uint8), *map(register, (0, _TOP - 1, -1, 0, 0)))


def bit_reader(data: bytes) -> BitReader:
    """A reader at the start of some bytes."""
    reader = BitReader(np.frombuffer(data, np.uint8), *map(register, (0, _TOP - 1, 0, 0)))
    for _ in range(6):
        take_byte(reader)
    # No writer begins with six times 0xFF: beyond the first interval a code would grow without end.
    reader.code[0] = min(int(reader.code[0]), _TOP - 2)
    return reader


def finish(writer: BitWriter) -> bytes:
    """All bytes that had room; if the last is among them, enough to settle every bit."""
    for _ in range(7):
        shift_byte(writer)
    put_byte(writer, int(writer.cache[0]))
    return writer.data[: int(writer.settled[0])].tobytes()


@compiled
def put_byte(writer: BitWriter, value: int) -> None:
    """Append a byte that no carry reaches any more."""
    if writer.settled[0] < len(writer.data):
        writer.data[writer.settled[0]] = value & 0xFF
    writer.settled[0] += 1


@compiled
def shift_byte(writer: BitWriter) -> None:
    """Move the top byte of `low` out."""
    top = writer.low[0] >> 40
    writer.low[0] = (writer.low[0] & (_BOTTOM - 1)) << _BYTE
    if top == 0xFF:
        writer.pending[0] += 1
        return
    carry = top >> _BYTE
    if writer.cache[0] >= 0:
        put_byte(writer, writer.cache[0] + carry)
    for _ in range(writer.pending[0]):
        put_byte(writer, 0xFF + carry)
    writer.cache[0] = top & 0xFF
    writer.pending[0] = 0


@compiled
def write_bit(writer: BitWriter, bit: bool, odds: int) -> None:
    """Append a bit; `odds` of it being 1, in 1..65535 of 65536."""
    bound = (writer.range[0] >> PROBABILITY_BITS) * odds
    if bit:
        writer.range[0] = bound
    else:
        writer.low[0] += bound
        writer.range[0] -= bound
    while writer.range[0] < _BOTTOM:
        writer.range[0] <<= _BYTE
        shift_byte(writer)


@compiled
def take_byte(reader: BitReader) -> None:
    """Move the next byte into `code`, or that nothing is known of it."""
    at = reader.next[0]
    reader.next[0] = at + 1
    reader.code[0] <<= _BYTE
    reader.unknown[0] <<= _BYTE
    if at < len(reader.data):
        reader.code[0] |= np.int64(reader.data[at])
    else:
        reader.unknown[0] |= 0xFF


@compiled
def read_bit(reader: BitReader, odds: int) -> int:
    """The next bit, whose odds of being 1 are given; OPEN if the stream ends before it is settled."""
    bound = (reader.range[0] >> PROBABILITY_BITS) * odds
    if reader.code[0] + reader.unknown[0] < bound:
        reader.range[0] = bound
        bit = 1
    elif reader.code[0] >= bound:
        reader.code[0] -= bound
        reader.range[0] -= bound
        bit = 0
    else:
        return OPEN
    while reader.range[0] < _BOTTOM:
        reader.range[0] <<= _BYTE
        take_byte(reader)
    return bit
