"""Bytes of a `.tsr` file: a total inverse pair, every prefix legal, every other input one typed error."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.bitstream import MAX_HEADER_SIZE_BYTES, header_size_bytes, pack, unpack
from tokenizer.canvas import MAX_SOURCE_SIDE_PX, Size
from tokenizer.coding import Coding
from tokenizer.errors import BitstreamError
from tokenizer.sequence import TokenSequence

sides = st.integers(1, MAX_SOURCE_SIDE_PX)
canvases = st.builds(Size, *(st.integers(1, 256).map(lambda n: 16 * n) for _ in range(2)))
fingerprints = st.binary(min_size=4, max_size=4).map(bytes.hex)
sequences = st.builds(
    TokenSequence,
    st.binary(max_size=200),
    st.builds(Size, sides, sides),
    fingerprints,
    st.just(Size(0, 0)) | canvases,
    coding=st.sampled_from(Coding),
)
SEQUENCE = TokenSequence(b"\x05\xff\x00", Size(640, 480), "0011aabb", coding=Coding.FIXED)


@given(sequences)
def test_reading_what_was_written_gives_the_same_sequence(sequence: TokenSequence) -> None:
    assert TokenSequence.from_bytes(sequence.to_bytes()) == sequence


@given(sequences)
def test_every_byte_prefix_that_holds_the_header_decodes(sequence: TokenSequence) -> None:
    data = sequence.to_bytes()
    header = header_size_bytes(sequence.source, sequence.canvas)
    for end in range(len(data) + 1):
        if end < header:
            with pytest.raises(BitstreamError):
                unpack(data[:end])
        else:
            assert unpack(data[:end]) == sequence.prefix(end - header)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    try:
        sequence = unpack(data)
    except BitstreamError:
        return
    assert data.endswith(sequence.tokens)


@given(sequences, st.data())
def test_damaged_streams_raise_only_our_error(sequence: TokenSequence, data: st.DataObject) -> None:
    damaged = bytearray(sequence.to_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack(bytes(damaged))
    except BitstreamError:
        return
    assert len(unpack(bytes(damaged)).to_bytes()) <= len(damaged)


def test_header_of_the_default_canvas_is_these_10_bytes() -> None:
    assert SEQUENCE.to_bytes().hex(" ") == "d7 52 00 11 aa bb 02 7f 01 df 05 ff 00"


def test_header_of_another_canvas_is_these_12_bytes() -> None:
    other = replace(SEQUENCE, canvas=Size(256, 128))
    assert other.to_bytes().hex(" ") == "d7 53 00 11 aa bb 02 7f 01 df 0f 07 05 ff 00"


def test_largest_source_fits_the_header() -> None:
    largest = TokenSequence(b"", Size(MAX_SOURCE_SIDE_PX, MAX_SOURCE_SIDE_PX), "ffffffff")
    assert unpack(pack(largest)) == largest


def test_the_coding_is_the_version() -> None:
    ranged = replace(SEQUENCE, coding=Coding.RANGE).to_bytes()
    assert (SEQUENCE.to_bytes()[1], ranged[1]) == (0x52, 0x54)
    assert TokenSequence.from_bytes(ranged).coding is Coding.RANGE


def test_explicit_canvas_that_equals_the_default_is_read() -> None:
    short = SEQUENCE.to_bytes()
    width, height = (side // 16 - 1 for side in (SEQUENCE.canvas.width_px, SEQUENCE.canvas.height_px))
    written_out = short[:1] + b"\x53" + short[2:10] + bytes((width, height)) + short[10:]
    assert unpack(written_out) == SEQUENCE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": Size(0, 5)}, "source sides"),
        ({"source": Size(5, 65_537)}, "source sides"),
        ({"canvas": Size(24, 32)}, "multiples of 16"),
        ({"canvas": Size(4112, 16)}, "multiples of 16"),
        ({"fingerprint": "0011aa"}, "8 hex digits"),
        ({"fingerprint": "0011aaxy"}, "8 hex digits"),
    ],
)
def test_facts_that_do_not_fit_the_header_are_refused(change: dict, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        replace(SEQUENCE, **change).to_bytes()


@pytest.mark.parametrize(
    ("data", "message", "byte_offset"),
    [
        (b"", "at least 10", 0),
        (b"\x89PNG\r\n\x1a\n" + bytes(8), "not a Tessera stream", 0),
        (b"\xd7\x62" + bytes(8), "not a Tessera stream", 1),
        (b"\xd7\x50" + bytes(8), "version 0", 1),
        (b"\xd7\x56" + bytes(8), "version 3", 1),
        (b"\xd7\x53" + bytes(9), f"{MAX_HEADER_SIZE_BYTES} bytes, got 11", 11),
    ],
)
def test_error_says_what_is_wrong_with_the_bytes_and_where(
    data: bytes, message: str, byte_offset: int
) -> None:
    with pytest.raises(BitstreamError, match=message) as caught:
        unpack(data)
    assert caught.value.facts == {"byte_offset": byte_offset}
