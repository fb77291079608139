"""Where rows go: one shard per unit, in one of three forms, whole or not at all.

parquet      data/part-000000.parquet   a row for every picture, bad ones with their error
webdataset   data/part-000000.tar       the sample's other fields, and `.tsr`; bad ones are left out
folder       data/<source>/<key>.tsr    bad ones are left out

Every form has the errors in the unit's report, too.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from serving.batch.arrow import pyarrow_parquet
from serving.batch.atomic import drafted, write_bytes
from serving.batch.names import parts_inside
from serving.batch.options import EncodeOptions
from serving.batch.rows import Row
from serving.batch.units import Unit

STREAM_ENDING = ".tsr"
DATA = "data"
"""Below the job's folder: nothing but shards, so that any reader takes the folder whole."""
# Rows written at once: two megabytes of tokens.
_WRITE_ROWS = 1000


class Sink(Protocol):
    """Opens the shard of a unit; rows given to the function are there once the block has ended well."""

    def shard(self, unit: Unit) -> Any:
        """A context manager that gives `write(row)`."""


class ParquetSink:
    """Columns that a trainer reads without our code."""

    def __init__(self, folder: Path, options: EncodeOptions, facts: dict[str, str]) -> None:
        self._folder = folder
        self._is_binary = options.token_column == "binary"
        self._schema = _schema(self._is_binary, facts)

    @contextmanager
    def shard(self, unit: Unit) -> Iterator[Callable[[Row], None]]:
        """Rows of one file, in the order of the source."""
        arrow = pyarrow_parquet()
        waiting: list[dict[str, Any]] = []
        with (
            drafted(self._folder / f"{unit.name}.parquet") as draft,
            arrow.parquet.ParquetWriter(draft, self._schema, compression="zstd") as writer,
        ):

            def flush() -> None:
                writer.write_table(arrow.Table.from_pylist(waiting, self._schema))
                waiting.clear()

            def write(row: Row) -> None:
                waiting.append(as_record(row, self._is_binary))
                if len(waiting) == _WRITE_ROWS:
                    flush()

            yield write
            flush()


class WebDatasetSink:
    """A tar like the source's, with streams beside what else a sample has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def shard(self, unit: Unit) -> Iterator[Callable[[Row], None]]:
        """Samples of one tar, in the order of the source."""
        with drafted(self._folder / f"{unit.name}.tar") as draft, tarfile.open(draft, "w") as shard:

            def write(row: Row) -> None:
                if row.sequence is None:
                    return
                # A source that has been through a job already: its stream gives way to the new one.
                fields = {**row.fields, STREAM_ENDING: row.sequence.to_bytes()}
                for ending, data in fields.items():
                    add_member(shard, row.key + ending, data)

            yield write


class FolderSink:
    """A `.tsr` for each picture, below the name of its source."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def shard(self, unit: Unit) -> Iterator[Callable[[Row], None]]:
        """Files; each is whole, and the unit counts once all are there."""

        def write(row: Row) -> None:
            if row.sequence is not None:
                write_bytes(self._folder / stream_path(unit, row.key), row.sequence.to_bytes())

        yield write


def open_sink(folder: Path, options: EncodeOptions, facts: dict[str, str]) -> Sink:
    """The sink that the options name; `facts` about the model go into the file's metadata."""
    data = folder / DATA
    if options.sink == "parquet":
        return ParquetSink(data, options, facts)
    return WebDatasetSink(data) if options.sink == "webdataset" else FolderSink(data)


def stream_path(unit: Unit, key: str) -> PurePosixPath:
    """Place of a picture's stream in a folder: never outside it, never another picture's.

    The picture's own ending stays, since `a.png` and `a.jpg` may lie side by side.
    """
    parts = parts_inside(key)
    root = () if unit.kind == "files" else (PurePosixPath(unit.source).stem,)
    return PurePosixPath(*root, *parts[:-1], parts[-1] + STREAM_ENDING)


def add_member(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    """A file of a tar, without times and owners: equal jobs write equal bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    shard.addfile(member, io.BytesIO(data))


def as_record(row: Row, is_binary: bool) -> dict[str, Any]:
    """A row as columns; tokens as bytes, or as what becomes a list of uint8."""
    one, failure = row.sequence, row.failure
    record: dict[str, Any] = {"key": row.key, "source": row.source}
    if failure is not None:
        record |= {"error": failure.reason, "error_message": failure.message}
    if one is not None:
        record |= {
            "token_ids": one.tokens if is_binary or not one.length else one.token_ids,
            "length": one.length,
            "width_px": one.source.width_px,
            "height_px": one.source.height_px,
            "canvas_width_px": one.canvas.width_px,
            "canvas_height_px": one.canvas.height_px,
            "coding": one.coding.value,
            "predicted_psnr_db": one.predicted_psnr_db,
            "fingerprint": one.fingerprint,
        }
    return record


def _schema(is_binary: bool, facts: dict[str, str]) -> Any:
    arrow = pyarrow_parquet()
    text, number = arrow.string(), arrow.int32()
    columns: Sequence[tuple[str, Any]] = (
        ("key", text),
        ("source", text),
        ("token_ids", arrow.binary() if is_binary else arrow.list_(arrow.uint8())),
        ("length", number),
        ("width_px", number),
        ("height_px", number),
        ("canvas_width_px", number),
        ("canvas_height_px", number),
        ("coding", text),
        ("predicted_psnr_db", arrow.float32()),
        ("fingerprint", text),
        ("error", text),
        ("error_message", text),
    )
    metadata = {f"tessera.{name}": value for name, value in facts.items()}
    return arrow.schema(columns, metadata=metadata)
