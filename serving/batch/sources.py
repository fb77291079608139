"""What a job reads: trees of pictures, WebDataset shards, Parquet files, lists of paths -> units -> samples.

folder        every file below it with a picture's ending     key = path within the folder
*.tar         WebDataset shard                                key = name up to the first dot
*.parquet     column of struct{bytes, path} or of bytes       key = path, or `file#row`
-             paths on stdin, one a line                      key = the path
pattern       any of the files, by `*`, `?`, `[]`, `**`
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from serving.batch import places
from serving.batch.errors import SourceRefused
from serving.batch.parquet_source import ParquetSource, read_rows
from serving.batch.tar_source import PICTURE_ENDINGS, TarSource, read_members
from serving.batch.units import Sample, Source, Unit


@dataclass(frozen=True, slots=True)
class TreeSource:
    """All pictures below a folder."""

    folder: str

    def units(self, first_index: int, unit_size: int) -> Iterator[Unit]:
        """Runs of `unit_size` files in sorted order."""
        found = (entry for entry in places.walk(self.folder) if _has_picture_ending(entry[0]))
        yield from file_units(self.folder, found, first_index, unit_size)


@dataclass(frozen=True, slots=True)
class ListSource:
    """The files that a list names; a name that is no file becomes a row with its error."""

    paths: Sequence[str]

    def units(self, first_index: int, unit_size: int) -> Iterator[Unit]:
        """Runs of `unit_size` paths in the order of the list."""
        yield from file_units("", ((path, 0) for path in self.paths), first_index, unit_size)


def open_sources(names: Sequence[str], *, image_column: str, stdin: Sequence[str] = ()) -> list[Source]:
    """A source for each name. Raises SourceRefused."""
    if not names:
        raise SourceRefused("name at least one folder, .tar, .parquet, pattern, or - for paths on stdin")
    return [source for name in names for source in _open(name, image_column, stdin)]


def units_of(sources: Sequence[Source], unit_size: int) -> Iterator[Unit]:
    """All units of all sources, numbered through."""
    index = 0
    for source in sources:
        for unit in source.units(index, unit_size):
            yield unit
            index += 1


def read_samples(unit: Unit, image_column: str) -> Iterator[Sample]:
    """The samples of a unit. Raises SourceRefused if the source is not what it was when it was planned."""
    try:
        yield from _read(unit, image_column)
    except OSError as error:
        raise SourceRefused(f"cannot read {unit.source}: {error.strerror or error}") from error


def _read(unit: Unit, image_column: str) -> Iterator[Sample]:
    if unit.kind == "tar":
        return read_members(unit)
    if unit.kind == "parquet":
        return read_rows(unit, image_column)
    return _read_files(unit)


def _open(name: str, image_column: str, stdin: Sequence[str]) -> Iterator[Source]:
    if name == "-":
        yield ListSource(stdin)
        return
    matches = [name]
    if not places.exists(name):
        matches = [] if places.is_url(name) else sorted(glob.glob(name, recursive=True))
    if not matches:
        raise SourceRefused(f"{name} is neither a file nor a folder, and as a pattern it matches nothing")
    single = []
    for match in matches:
        ending = PurePosixPath(match).suffix.lower()
        if places.is_folder(match):
            yield TreeSource(match)
        elif ending == ".tar":
            yield TarSource(match)
        elif ending == ".parquet":
            yield ParquetSource(match, image_column)
        elif ending in PICTURE_ENDINGS:
            single.append(match)
        else:
            raise SourceRefused(f"{match} is neither a folder, a .tar, a .parquet nor a picture")
    if single:
        yield ListSource(single)


def file_units(
    folder: str, found: Iterator[tuple[str, int]], first_index: int, unit_size: int
) -> Iterator[Unit]:
    """Runs of `unit_size` files, of which path and size are known."""
    start, members, sizes = 0, [], []
    for member, size_bytes in found:
        members.append(member)
        sizes.append(size_bytes)
        if len(members) == unit_size:
            yield _files(folder, first_index, start, members, sizes)
            first_index, start, members, sizes = first_index + 1, start + unit_size, [], []
    if members:
        yield _files(folder, first_index, start, members, sizes)


def _files(folder: str, index: int, start: int, members: list[str], sizes: list[int]) -> Unit:
    # Sizes only: opening each of a million files for its hash would take as long as half the job.
    identity = "-".join(map(str, sizes))
    stop = start + len(members)
    return Unit(index, "files", folder, start, stop, members=tuple(members), identity=identity)


def _read_files(unit: Unit) -> Iterator[Sample]:
    for member in unit.members:
        place = places.join(unit.source, member) if unit.source else member
        try:
            yield Sample(member, places.read_all(place))
        except OSError:
            yield Sample(member, None)


def _has_picture_ending(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in PICTURE_ENDINGS
