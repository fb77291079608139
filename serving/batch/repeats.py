"""Pictures whose stream would lie where an earlier one's lies: they become errors, and overwrite nothing.

folder       places are of the whole job: compared while units are planned, so that a unit brings its repeats
webdataset   a key stands for one sample of its shard, which is one unit: its worker sees repeats
parquet      rows have no names, so keys may repeat

All this follows from the sources alone: any engine, and any run of a job that was stopped, finds the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from serving.batch import places
from serving.batch.decode_options import DecodeOptions
from serving.batch.options import EncodeOptions, SinkName
from serving.batch.parquet_source import row_keys
from serving.batch.picture_sinks import picture_path
from serving.batch.sinks import STREAM_ENDING, stream_path
from serving.batch.sources import TreeSource, units_of
from serving.batch.tar_source import sample_keys
from serving.batch.token_source import token_units
from serving.batch.units import Sample, Source, Unit

# With 80 bits, two of a billion places look alike once in two million jobs; that is an error, and no loss.
_PLACE_BYTES = 10


def encode_units(sources: Sequence[Source], options: EncodeOptions) -> Iterator[Unit]:
    """Units of a job that encodes. Takes some 100 bytes per picture where places must be compared."""
    units = units_of(sources, options.unit_size)
    # Paths below one tree never repeat.
    is_one_tree = len(sources) == 1 and isinstance(sources[0], TreeSource)
    if options.sink != "folder" or is_one_tree:
        return units
    return _compared(
        units, lambda unit: (stream_path(unit, key) for key in _keys(unit, options.image_column))
    )


def decode_units(options: DecodeOptions) -> Iterator[Unit]:
    """The same of a job that decodes; what two shards become never meets."""
    units = token_units(options.sources, options.unit_size, options.ending)
    is_one_tree = len(options.sources) == 1 and places.is_folder(options.sources[0])
    if options.sink != "folder" or is_one_tree:
        return units
    return _compared(
        units,
        lambda unit: (
            picture_path(unit, member.removesuffix(STREAM_ENDING), options.ending) for member in unit.members
        ),
    )


def marked(samples: Iterable[Sample], unit: Unit, sink: SinkName) -> Iterator[Sample]:
    """The samples of a unit; those that must not be written know it."""
    repeats, seen = frozenset(unit.repeats), set[str]()
    for number, sample in enumerate(samples):
        is_repeat = number in repeats
        if sink == "webdataset":
            is_repeat = sample.key in seen
            seen.add(sample.key)
        yield replace(sample, is_repeat=True) if is_repeat else sample


def _compared(units: Iterator[Unit], places_of: Callable[[Unit], Iterable[PurePosixPath]]) -> Iterator[Unit]:
    taken = set[bytes]()
    for unit in units:
        repeats = []
        for number, path in enumerate(places_of(unit)):
            place = _digest(path.as_posix())
            if place in taken:
                repeats.append(number)
            taken.add(place)
        yield replace(unit, repeats=tuple(repeats))


def _keys(unit: Unit, image_column: str) -> Iterable[str]:
    if unit.kind == "tar":
        return sample_keys(unit)
    return row_keys(unit, image_column) if unit.kind == "parquet" else unit.members


def _digest(place: str) -> bytes:
    return hashlib.blake2b(place.encode(errors="surrogatepass"), digest_size=_PLACE_BYTES).digest()
