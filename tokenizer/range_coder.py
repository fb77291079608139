"""A binary arithmetic coder whose every prefix can be read: bits and their odds <-> bytes. Knows no pictures.

An interval [low, low + range) of 48 bits is split by the odds of each bit (Martin 1979; the byte-wise
renormalisation and carry are those of LZMA's coder). All integers, so any machine agrees.

What ordinary range coders lack: `BitReader` knows which bits a cut stream still settles. Beyond the last byte
the code could be anything, so a bit counts only if every continuation of the stream gives the same one.
"""

from __future__ import annotations

from collections.abc import Iterable

PROBABILITY_BITS = 16
ONE = 1 << PROBABILITY_BITS
HALF = ONE >> 1
_TOP = 1 << 48
# Below this the range is widened by a byte: 24 bits then stay above the probability's 16.
_BOTTOM = 1 << 40
_BYTE = 8
_MASK = _BOTTOM - 1


class BitWriter:
    """Bits in, bytes out."""

    def __init__(self) -> None:
        self._low, self._range = 0, _TOP - 1
        # The last byte, settled but for a carry, and how many 0xFF behind it a carry would ripple through.
        self._cache, self._pending = -1, 0
        self._bytes = bytearray()

    def write(self, bits: Iterable[int], odds: Iterable[int]) -> None:
        """Append bits; `odds` of each being 1, in 1..65535 of 65536."""
        low, span = self._low, self._range
        for bit, p in zip(bits, odds, strict=True):
            bound = (span >> PROBABILITY_BITS) * p
            if bit:
                span = bound
            else:
                low += bound
                span -= bound
            while span < _BOTTOM:
                span <<= _BYTE
                low = self._shift(low)
        self._low, self._range = low, span

    def _shift(self, low: int) -> int:
        """Move the top byte of `low` out; returns what is left of it, eight bits up."""
        top = low >> 40
        if top == 0xFF:
            self._pending += 1
        else:
            carry = top >> _BYTE
            if self._cache >= 0:
                self._bytes.append((self._cache + carry) & 0xFF)
            self._bytes.extend(((0xFF + carry) & 0xFF,) * self._pending)
            self._cache, self._pending = top & 0xFF, 0
        return (low & _MASK) << _BYTE

    @property
    def size_bytes(self) -> int:
        """Bytes so far, those included that a carry may still change."""
        return len(self._bytes) + self._pending + (self._cache >= 0)

    def finish(self) -> bytes:
        """All bytes; enough of them to settle every bit."""
        low = self._low
        for _ in range(7):
            low = self._shift(low)
        self._bytes.append(self._cache)
        return bytes(self._bytes)


class BitReader:
    """Bytes in, bits out, as far as the bytes settle them."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next = data, 0
        self._code, self._range = 0, _TOP - 1
        # The code lies in [code, code + unknown]: the bytes that are missing count as all 0 up to all 1.
        self._unknown = 0
        for _ in range(6):
            self._code = self._code << _BYTE | self._byte()

    def _byte(self) -> int:
        at = self._next
        self._next += 1
        if at < len(self._data):
            self._unknown <<= _BYTE
            return self._data[at]
        self._unknown = self._unknown << _BYTE | 0xFF
        return 0

    def read(self, odds: int) -> int | None:
        """The next bit, whose odds of being 1 are given; None if the stream ends before it is settled."""
        bound = (self._range >> PROBABILITY_BITS) * odds
        if self._code + self._unknown < bound:
            self._range, bit = bound, 1
        elif self._code >= bound:
            self._code -= bound
            self._range -= bound
            bit = 0
        else:
            return None
        while self._range < _BOTTOM:
            self._range <<= _BYTE
            self._code = self._code << _BYTE | self._byte()
        return bit
