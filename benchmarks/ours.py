"""Our tokenizer measured like any codec: what the first tokens of one stream give at each byte count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.progress import track

from benchmarks.pictures import Picture, Pixels
from benchmarks.scores import Row, Series, score
from tokenizer import ImageTokenizer, TokenSequence
from tokenizer.bitstream import header_size_bytes
from tokenizer.canvas import DEFAULT_AREA_PX
from tokenizer.coding import DEFAULT_CODING, Coding

# Enough to use the batch dimension, little enough for a laptop's memory.
BATCH_SIZE = 8


def measure_tokens_and_files(
    tokenizer: ImageTokenizer,
    pictures: Sequence[Picture],
    byte_counts: Sequence[int],
    name: str,
    coding: Coding = DEFAULT_CODING,
    canvas_area_px: int = DEFAULT_AREA_PX,
) -> tuple[Series, Series]:
    """Scores of the bare tokens, and of whole `.tsr` files: the header counts, so fewer tokens fit."""
    rows = [
        _rows(tokenizer, picture, whole, byte_counts)
        for picture, whole in track(
            _encoded(tokenizer, pictures, coding, canvas_area_px),
            description=f"{name} {tokenizer.fingerprint}",
            total=len(pictures),
        )
    ]
    tokens, files = zip(*rows, strict=True)
    return Series(f"{name} tokens", tokens, is_ours=True), Series(f"{name} file", files, is_ours=True)


def _encoded(
    tokenizer: ImageTokenizer, pictures: Sequence[Picture], coding: Coding, canvas_area_px: int
) -> Iterator[tuple[Picture, TokenSequence]]:
    for start in range(0, len(pictures), BATCH_SIZE):
        batch = pictures[start : start + BATCH_SIZE]
        pixels = [picture.pixels for picture in batch]
        wholes = tokenizer.encode(pixels, coding=coding, canvas_area_px=canvas_area_px)
        yield from zip(batch, wholes, strict=True)


def _rows(
    tokenizer: ImageTokenizer, picture: Picture, whole: TokenSequence, byte_counts: Sequence[int]
) -> tuple[Row, Row]:
    header_bytes = header_size_bytes(whole.source, whole.canvas)
    budgets = sorted({*byte_counts, *(count - header_bytes for count in byte_counts)})
    lengths = sorted({min(budget, whole.length) for budget in budgets if budget > 0})
    decoded = decode_prefixes(tokenizer, whole, lengths)
    return (
        _row(picture, whole, byte_counts, decoded, header_bytes=0),
        _row(picture, whole, byte_counts, decoded, header_bytes=header_bytes),
    )


def _row(
    picture: Picture,
    whole: TokenSequence,
    byte_counts: Sequence[int],
    decoded: dict[int, Pixels],
    *,
    header_bytes: int,
) -> Row:
    lengths = [min(count - header_bytes, whole.length) for count in byte_counts]
    return tuple(
        score(picture.pixels, decoded[length], length + header_bytes, f"{length} tokens")
        if length > 0
        else None
        for length in lengths
    )


def decode_prefixes(
    tokenizer: ImageTokenizer, whole: TokenSequence, lengths: Sequence[int]
) -> dict[int, Pixels]:
    """The picture at each length, decoded in batches."""
    decoded: dict[int, Pixels] = {}
    for start in range(0, len(lengths), BATCH_SIZE):
        batch = lengths[start : start + BATCH_SIZE]
        decoded.update(zip(batch, tokenizer.decode([whole.prefix(n) for n in batch]), strict=True))
    return decoded
