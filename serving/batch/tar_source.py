"""WebDataset shards: consecutive members of one tar whose names agree up to the first dot are a sample."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from serving.batch import places
from serving.batch.errors import SourceRefused
from serving.batch.units import Sample, Unit

PICTURE_ENDINGS = (
    ".webp", ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".bmp", ".gif", ".tif", ".tiff", ".avif",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TarSource:
    """One shard."""

    path: str

    def units(self, first_index: int, unit_size: int) -> Iterator[Unit]:
        """Ranges of samples, found by reading the headers only."""
        identity = places.identity(self.path)
        start = count = offset = 0
        for number, (_, member_offset) in enumerate(_sample_starts(self.path)):
            if number - start == unit_size:
                yield Unit(first_index, "tar", self.path, start, number, offset, identity=identity)
                first_index, start, offset = first_index + 1, number, member_offset
            count = number + 1
        if count > start:
            yield Unit(first_index, "tar", self.path, start, count, offset, identity=identity)


def read_members(unit: Unit) -> Iterator[Sample]:
    """The samples of a unit, one in memory at a time."""
    if places.identity(unit.source) != unit.identity:
        raise SourceRefused(f"{unit.source} has changed since the job began")
    yield from islice(samples_from(unit.source, unit.offset), unit.count)


def sample_keys(unit: Unit) -> Iterator[str]:
    """Keys of a unit's samples, by reading headers only."""
    return (key for key, _ in islice(_sample_starts(unit.source, unit.offset), unit.count))


def samples_from(path: str, offset: int = 0) -> Iterator[Sample]:
    """Every sample from a byte on, at which one begins. Raises SourceRefused."""
    key, fields = None, dict[str, bytes]()
    for name, data in _files(path, offset):
        new_key, ending = _split(name)
        if key is not None and (new_key != key or ending in fields):
            yield _sample(key, fields)
            fields = {}
        key = new_key
        fields[ending] = data
    if key is not None:
        yield _sample(key, fields)


def _sample_starts(path: str, offset: int = 0) -> Iterator[tuple[str, int]]:
    """(key, byte of the first member) of each sample; a name that comes again begins another sample."""
    last, endings = None, set[str]()
    for member in members_of(path, offset):
        key, ending = _split(member.name)
        if key != last or ending in endings:
            yield key, member.offset
            last, endings = key, set()
        endings.add(ending)


def _files(path: str, offset: int) -> Iterator[tuple[str, bytes]]:
    with places.open_read(path) as file:
        file.seek(offset)
        try:
            with tarfile.open(fileobj=file, mode="r:") as shard:
                for member in shard:
                    if member.isfile():
                        content = shard.extractfile(member)
                        assert content is not None  # isfile() was checked
                        yield member.name, content.read()
                    _forget(shard)
        except tarfile.TarError as error:
            raise SourceRefused(f"{path} is not a whole tar file: {error}") from error


def members_of(path: str, offset: int = 0) -> Iterator[tarfile.TarInfo]:
    """Headers of all files of a tar from a byte on. Raises SourceRefused."""
    with places.open_read(path) as file:
        file.seek(offset)
        try:
            with tarfile.open(fileobj=file, mode="r:") as shard:
                for member in shard:
                    if member.isfile():
                        yield member
                    _forget(shard)
        except tarfile.TarError as error:
            raise SourceRefused(f"{path} is not a whole tar file: {error}") from error


def _forget(shard: Any) -> None:
    """tarfile keeps every header it has read, for a way back that nobody goes here."""
    shard.members.clear()


def _split(name: str) -> tuple[str, str]:
    """Key and ending, as WebDataset splits: at the first dot of the last part.

    >>> _split("a.b/0001.seg.png")
    ('a.b/0001', '.seg.png')
    """
    path = PurePosixPath(name)
    stem, dot, ending = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, dot + ending


def _sample(key: str, fields: dict[str, bytes]) -> Sample:
    picture = next((ending for ending in fields if ending.lower() in PICTURE_ENDINGS), None)
    return Sample(key, None if picture is None else fields[picture], fields)
