"""Streams -> picture files: decode in small batches, write. Every stream gives one row, in its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.batch.decode_options import DecodeOptions
from serving.batch.encoder import BATCH_AREA_PX, BATCH_PICTURES
from serving.batch.rows import CRASHED, Failure, failure_of
from serving.batch.token_source import StreamSample
from tokenizer.errors import ArtifactError, InvalidRealism, ProviderError, RealismUnavailable
from tokenizer.images import write_image
from tokenizer.sequence import TokenSequence

# Wrong for every stream alike.
_FATAL = (ArtifactError, InvalidRealism, ProviderError, RealismUnavailable)


class PictureDecoder(Protocol):
    """The part of ImageTokenizer that a job needs."""

    def decode(
        self, sequences: Sequence[TokenSequence], *, realism: float, steps: int, seed: int
    ) -> list[NDArray[np.uint8]]:
        """Pictures at their source size."""


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A picture file, or why there is none; neither of what was an error before."""

    key: str
    picture: bytes | None = None
    length: int = 0
    failure: Failure | None = None
    fields: Mapping[str, bytes] = field(default_factory=dict)


class StreamDecoder:
    """One tokenizer, one way to use it."""

    def __init__(self, tokenizer: PictureDecoder, options: DecodeOptions) -> None:
        self._tokenizer = tokenizer
        self._options = options

    def rows(self, samples: Iterable[StreamSample], *, one_by_one: bool = False) -> Iterator[PictureRow]:
        """A row for each stream. Raises only what would fail for every stream."""
        limit = 1 if one_by_one else BATCH_PICTURES
        waiting: list[StreamSample] = []
        area_px = 0
        for sample in samples:
            waiting.append(sample)
            one = None if sample.is_poison else sample.sequence
            area_px += 0 if one is None else max(one.source.area_px, one.canvas.area_px)
            if len(waiting) == limit or area_px > BATCH_AREA_PX:
                yield from self._decode(waiting)
                waiting, area_px = [], 0
        yield from self._decode(waiting)

    def _decode(self, waiting: list[StreamSample]) -> Iterator[PictureRow]:
        good = [
            self._prefix(one.sequence) for one in waiting if one.sequence is not None and not one.is_poison
        ]
        decoded = iter(zip(good, self._decode_all(good), strict=True))
        for one in waiting:
            if one.is_poison:
                yield PictureRow(one.key, failure=CRASHED)
            elif one.sequence is None:
                yield PictureRow(one.key, failure=one.failure)
            else:
                sequence, result = next(decoded)
                yield self._row(one, sequence, result)

    def _row(
        self, sample: StreamSample, sequence: TokenSequence, result: NDArray[np.uint8] | Failure
    ) -> PictureRow:
        if isinstance(result, Failure):
            return PictureRow(sample.key, failure=result)
        try:
            picture = write_image(result, self._options.format, self._options.quality)
        except Exception as error:  # too large for the format, or a bug: the row says so
            return PictureRow(sample.key, failure=failure_of(error))
        return PictureRow(sample.key, picture, sequence.length, fields=sample.fields)

    def _prefix(self, sequence: TokenSequence) -> TokenSequence:
        longest = self._options.max_tokens
        return sequence if longest is None else sequence.prefix(longest)

    def _decode_all(self, sequences: list[TokenSequence]) -> Sequence[NDArray[np.uint8] | Failure]:
        """All at once; if that fails, one by one, so that a stream fails alone."""
        try:
            return self._decode_batch(sequences)
        except _FATAL:
            raise
        except Exception:
            return [self._decode_one(sequence) for sequence in sequences]

    def _decode_one(self, sequence: TokenSequence) -> NDArray[np.uint8] | Failure:
        try:
            return self._decode_batch([sequence])[0]
        except _FATAL:
            raise
        except Exception as error:  # a bug of ours or of a library: the row says so, the job goes on
            return failure_of(error)

    def _decode_batch(self, sequences: list[TokenSequence]) -> list[NDArray[np.uint8]]:
        options = self._options
        if not sequences:
            return []
        return self._tokenizer.decode(
            sequences, realism=options.realism, steps=options.steps, seed=options.seed
        )
