"""Samples -> rows: read, encode in small batches, cut. Every sample gives exactly one row, in its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.batch.options import EncodeOptions
from serving.batch.rows import CRASHED, KEY_REPEATED, Failure, Row, failure_of
from serving.batch.units import Sample
from serving.shortfall import measured_shortfall
from tokenizer.budget import TokenBudget
from tokenizer.coding import Coding
from tokenizer.errors import (
    ArtifactError,
    CodingUnsupported,
    ImageMissing,
    InvalidBudget,
    ProviderError,
    TokenizerError,
)
from tokenizer.images import read_image
from tokenizer.quality import psnr_db
from tokenizer.sequence import TokenSequence

Pixels = NDArray[np.uint8]
BATCH_PICTURES = 8
# A batch of large photographs must not take more memory than one of the largest that is read at all.
BATCH_AREA_PX = 16_000_000
# Wrong for every picture alike.
_FATAL = (ArtifactError, CodingUnsupported, InvalidBudget, ProviderError)


class Tokenizer(Protocol):
    """The part of ImageTokenizer that a job needs."""

    def encode(
        self, images: Sequence[Pixels], *, coding: Coding | None, canvas_area_px: int | None
    ) -> list[TokenSequence]:
        """All tokens of each picture."""

    def cut(
        self, whole: TokenSequence, budget: TokenBudget | None, image: Pixels, *, bare: bool
    ) -> TokenSequence:
        """The prefix that keeps a budget."""

    def decode(self, sequences: Sequence[TokenSequence]) -> list[Pixels]:
        """The pictures; asked only where a quality budget says to look."""


@dataclass(slots=True)
class _Waiting:
    sample: Sample
    pixels: Pixels | None
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class _Kept:
    sequence: TokenSequence
    is_short: bool


class SampleEncoder:
    """One tokenizer, one way to use it."""

    def __init__(self, tokenizer: Tokenizer, options: EncodeOptions) -> None:
        self._tokenizer = tokenizer
        self._options = options
        self._budget = options.budget

    def rows(self, samples: Iterable[Sample], source: str, *, one_by_one: bool = False) -> Iterator[Row]:
        """A row for each sample. Raises only what would fail for every picture."""
        limit = 1 if one_by_one else BATCH_PICTURES
        waiting: list[_Waiting] = []
        area_px = 0
        for sample in samples:
            one = _read(sample)
            waiting.append(one)
            area_px += 0 if one.pixels is None else one.pixels[..., 0].size
            if len(waiting) == limit or area_px > BATCH_AREA_PX:
                yield from self._encode(waiting, source)
                waiting, area_px = [], 0
        yield from self._encode(waiting, source)

    def _encode(self, waiting: list[_Waiting], source: str) -> Iterator[Row]:
        good = [one.pixels for one in waiting if one.pixels is not None]
        encoded = iter(self._encode_all(good))
        for one in waiting:
            result = one.failure if one.pixels is None else next(encoded)
            sample = one.sample
            if isinstance(result, _Kept):
                yield Row(
                    sample.key,
                    source,
                    sequence=result.sequence,
                    fields=sample.fields,
                    is_short=result.is_short,
                )
            else:
                yield Row(sample.key, source, failure=result)

    def _encode_all(self, pictures: list[Pixels]) -> list[_Kept | Failure]:
        """All at once; if that fails, one by one, so that a picture fails alone."""
        try:
            return [*self._encode_batch(pictures)]
        except _FATAL:
            raise
        except Exception:
            return [self._encode_one(picture) for picture in pictures]

    def _encode_one(self, picture: Pixels) -> _Kept | Failure:
        try:
            (kept,) = self._encode_batch([picture])
            return kept
        except _FATAL:
            raise
        except Exception as error:  # a bug of ours or of a library: the row says so, the job goes on
            return failure_of(error)

    def _encode_batch(self, pictures: list[Pixels]) -> list[_Kept]:
        if not pictures:
            return []
        wholes = self._tokenizer.encode(
            pictures, coding=self._options.coding, canvas_area_px=self._options.canvas_area_px
        )
        return [self._cut(whole, picture) for whole, picture in zip(wholes, pictures, strict=True)]

    def _cut(self, whole: TokenSequence, picture: Pixels) -> _Kept:
        if self._budget is None:
            return _Kept(whole, is_short=False)

        def measure(sequence: TokenSequence) -> float:
            return psnr_db(picture, self._tokenizer.decode([sequence])[0])

        kept = self._tokenizer.cut(whole, self._budget, picture, bare=self._options.is_bare)
        return _Kept(kept, measured_shortfall(kept, whole, self._budget, measure) is not None)


def _read(sample: Sample) -> _Waiting:
    if sample.is_poison:
        return _Waiting(sample, None, CRASHED)
    if sample.is_repeat:
        return _Waiting(sample, None, KEY_REPEATED)
    try:
        if sample.data is None:
            raise ImageMissing("there is no picture in this sample, or its file cannot be read")
        return _Waiting(sample, read_image(sample.data), None)
    except TokenizerError as error:
        return _Waiting(sample, None, failure_of(error))
