"""Where rebuilt pictures go: whole or not at all, and for each input shard one output of its name.

folder       data/<key>.png             of a tree of `.tsr` files
             data/<shard>/<key>.png     of a shard, since keys need only differ within theirs
webdataset   data/<shard>.tar           the picture, and the sample's other fields
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from serving.batch.atomic import drafted, write_bytes
from serving.batch.decode_options import DecodeOptions
from serving.batch.decoder import PictureRow
from serving.batch.names import parts_inside, picture_name
from serving.batch.sinks import DATA, add_member
from serving.batch.token_source import shard_name
from serving.batch.units import Unit


class PictureSink(Protocol):
    """Opens the output of a unit; rows given to the function are there once the block has ended well."""

    def shard(self, unit: Unit) -> Any:
        """A context manager that gives `write(row)`, for rows with a picture."""


class PictureFolder:
    """A file for each picture."""

    def __init__(self, data: Path, ending: str) -> None:
        self._data, self._ending = data, ending

    @contextmanager
    def shard(self, unit: Unit) -> Iterator[Callable[[PictureRow], None]]:
        """Files; each is whole, and the unit counts once all are there."""

        def write(row: PictureRow) -> None:
            assert row.picture is not None  # the worker gives no others
            write_bytes(self._data / picture_path(unit, row.key, self._ending), row.picture)

        yield write


class PictureTar:
    """A WebDataset shard for each unit."""

    def __init__(self, data: Path, ending: str) -> None:
        self._data, self._ending = data, ending

    @contextmanager
    def shard(self, unit: Unit) -> Iterator[Callable[[PictureRow], None]]:
        """Samples of one tar, in the order of the input."""
        path = self._data / f"{shard_name(unit)}.tar"
        with drafted(path) as draft, tarfile.open(draft, "w") as shard:

            def write(row: PictureRow) -> None:
                assert row.picture is not None  # the worker gives no others
                for ending, data in row.fields.items():
                    add_member(shard, row.key + ending, data)
                add_member(shard, picture_name(row.key, self._ending), row.picture)

            yield write


def open_picture_sink(folder: Path, options: DecodeOptions) -> PictureSink:
    """The sink that the options name."""
    sink = PictureTar if options.sink == "webdataset" else PictureFolder
    return sink(folder / DATA, options.ending)


def picture_path(unit: Unit, key: str, ending: str) -> PurePosixPath:
    """Place of a picture in a folder, never outside it. The ending is that of what is in the file.

    >>> picture_path(Unit(0, "files", "/x/tokens", 0, 1), "cats/0001.jpg", ".png").as_posix()
    'cats/0001.jpg.png'
    """
    root = () if unit.kind == "files" else (shard_name(unit),)
    *parents, name = parts_inside(key)
    return PurePosixPath(*root, *parents, picture_name(name, ending))
