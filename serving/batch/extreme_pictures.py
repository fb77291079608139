"""The hardest and easiest pictures of a job, read again: the source beside what its tokens show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.batch.decoder import PictureDecoder
from serving.batch.errors import BatchError
from serving.batch.options import EncodeOptions
from serving.batch.reports import Extreme, read_report
from serving.batch.sinks import DATA, stream_path
from serving.batch.sources import read_samples
from serving.batch.token_source import all_streams
from serving.batch.units import Unit
from tokenizer.errors import TokenizerError
from tokenizer.images import read_image
from tokenizer.quality import psnr_db
from tokenizer.sequence import TokenSequence

Pixels = NDArray[np.uint8]
_WRONG = (BatchError, TokenizerError, OSError, LookupError, StopIteration, ValueError)
"""What a source that is gone or has changed may raise: the sheet does without it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Thumbnails of one picture; None where it cannot be read any more."""

    facts: Extreme
    source: Image.Image | None
    decoded: Image.Image | None
    psnr_db: float | None
    """Measured over all pixels, where both are there."""


def read_pairs(
    folder: Path,
    options: EncodeOptions,
    decoder: PictureDecoder,
    extremes: Sequence[Extreme],
    side_px: int,
) -> list[Pair]:
    """A pair for each, its thumbnails within a square. Raises nothing for a picture that is gone."""
    return [_pair(folder, options, decoder, one, side_px) for one in extremes]


def _pair(
    folder: Path, options: EncodeOptions, decoder: PictureDecoder, extreme: Extreme, side_px: int
) -> Pair:
    unit = Unit.from_json(read_report(folder, extreme.unit).unit)
    source = _source(unit, extreme, options.image_column)
    decoded = _decoded(folder / DATA, options, unit, extreme, decoder)
    measured = None
    if source is not None and decoded is not None and source.shape == decoded.shape:
        measured = psnr_db(source, decoded)
    return Pair(extreme, _thumbnail(source, side_px), _thumbnail(decoded, side_px), measured)


def _source(unit: Unit, extreme: Extreme, image_column: str) -> Pixels | None:
    number = extreme.number
    if unit.kind == "files":
        unit, number = replace(unit, members=(extreme.key,)), 0
    elif unit.kind == "parquet":
        unit, number = replace(unit, start=unit.start + number, stop=unit.start + number + 1), 0
    try:
        for sample in islice(read_samples(unit, image_column), number, None):
            return None if sample.data is None else read_image(sample.data)
    except _WRONG:
        pass
    return None


def _decoded(
    data: Path, options: EncodeOptions, unit: Unit, extreme: Extreme, decoder: PictureDecoder
) -> Pixels | None:
    try:
        sequence = _sequence(data, options, unit, extreme)
        return None if sequence is None else decoder.decode([sequence], realism=0.0, steps=1, seed=0)[0]
    except _WRONG:
        return None


def _sequence(data: Path, options: EncodeOptions, unit: Unit, extreme: Extreme) -> TokenSequence | None:
    if options.sink == "folder":
        return TokenSequence.from_bytes((data / stream_path(unit, extreme.key)).read_bytes())
    if options.sink == "parquet":
        # A row for every sample, good or bad, so that keys may repeat.
        rows = islice(all_streams(str(data / f"{unit.name}.parquet")), extreme.number, None)
        return next(rows).sequence
    streams = all_streams(str(data / f"{unit.name}.tar"))
    return next((one.sequence for one in streams if one.key == extreme.key), None)


def _thumbnail(pixels: Pixels | None, side_px: int) -> Image.Image | None:
    """As large as fits; small pictures are shown with their pixels."""
    if pixels is None:
        return None
    height, width = pixels.shape[:2]
    scale = side_px / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
    return Image.fromarray(pixels).resize(size, how)
