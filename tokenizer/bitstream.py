"""pack / unpack: TokenSequence <-> bytes of a `.tsr` file. The specification is docs/bitstream.md.

byte  0      0xD7
byte  1      0101 vvv c     vvv = version: 1 fixed coding, 2 range coding; c = 1 if the canvas is given
byte  2-5    fingerprint of the model
byte  6-7    source width - 1, big-endian
byte  8-9    source height - 1, big-endian
byte 10-11   canvas width / 16 - 1, canvas height / 16 - 1   (only if c = 1)
then         the tokens, one byte each, to the end of the file
"""

from __future__ import annotations

import struct

from tokenizer.canvas import MAX_SOURCE_SIDE_PX, MULTIPLE_PX, Size, choose_canvas, is_canvas
from tokenizer.coding import Coding
from tokenizer.errors import BitstreamError
from tokenizer.sequence import TokenSequence

MAGIC = 0xD7
VERSIONS = {Coding.FIXED: 1, Coding.RANGE: 2}
_CODINGS = {version: coding for coding, version in VERSIONS.items()}
_KIND = 0b0101_0000
_FIXED = struct.Struct(">BB4sHH")
MAX_HEADER_SIZE_BYTES = _FIXED.size + 2


def header_size_bytes(source: Size, canvas: Size) -> int:
    """Size of the header that `pack` writes: 10, or 12 where the canvas is not the default one."""
    return _FIXED.size if canvas == choose_canvas(source) else MAX_HEADER_SIZE_BYTES


def pack(sequence: TokenSequence) -> bytes:
    """TokenSequence -> file bytes. Raises BitstreamError if a fact does not fit the header."""
    source, canvas = sequence.source, sequence.canvas
    if not all(1 <= side <= MAX_SOURCE_SIDE_PX for side in (source.width_px, source.height_px)):
        raise BitstreamError(f"source sides must be 1..{MAX_SOURCE_SIDE_PX}, got {source}")
    if not is_canvas(canvas):
        raise BitstreamError(f"canvas sides must be multiples of 16 in 16..4096, got {canvas}")
    explicit = canvas != choose_canvas(source)
    header = _FIXED.pack(
        MAGIC,
        _KIND | VERSIONS[sequence.coding] << 1 | explicit,
        _fingerprint_bytes(sequence.fingerprint),
        source.width_px - 1,
        source.height_px - 1,
    )
    return header + (_pack_canvas(canvas) if explicit else b"") + sequence.tokens


def unpack(data: bytes) -> TokenSequence:
    """File bytes, or any prefix that holds the header -> TokenSequence. Raises BitstreamError only."""
    if len(data) < _FIXED.size:
        message = f"a stream has at least {_FIXED.size} header bytes, got {len(data)}"
        raise BitstreamError(message, byte_offset=len(data))
    magic, kind, fingerprint, width, height = _FIXED.unpack_from(data)
    if magic != MAGIC or kind & 0xF0 != 0x50:
        message = f"not a Tessera stream: begins with {bytes(data[:2]).hex()}, not d75x"
        raise BitstreamError(message, byte_offset=int(magic == MAGIC))
    version = kind >> 1 & 7
    if version not in _CODINGS:
        message = f"stream version {version} is not supported, only {sorted(_CODINGS)} are"
        raise BitstreamError(message, byte_offset=1)
    source = Size(width + 1, height + 1)
    start, canvas = _FIXED.size, choose_canvas(source)
    if kind & 1:
        if len(data) < MAX_HEADER_SIZE_BYTES:
            message = f"this header has {MAX_HEADER_SIZE_BYTES} bytes, got {len(data)}"
            raise BitstreamError(message, byte_offset=len(data))
        start, canvas = MAX_HEADER_SIZE_BYTES, _unpack_canvas(data)
    tokens = bytes(data[start:])
    return TokenSequence(tokens, source, fingerprint.hex(), canvas, coding=_CODINGS[version])


def _fingerprint_bytes(fingerprint: str) -> bytes:
    try:
        raw = bytes.fromhex(fingerprint)
    except ValueError:
        raw = b""
    if len(raw) != 4:
        raise BitstreamError(f"a fingerprint is 8 hex digits, got {fingerprint!r}")
    return raw


def _pack_canvas(canvas: Size) -> bytes:
    return bytes((canvas.width_px // MULTIPLE_PX - 1, canvas.height_px // MULTIPLE_PX - 1))


def _unpack_canvas(data: bytes) -> Size:
    width, height = data[_FIXED.size : MAX_HEADER_SIZE_BYTES]
    return Size((width + 1) * MULTIPLE_PX, (height + 1) * MULTIPLE_PX)
