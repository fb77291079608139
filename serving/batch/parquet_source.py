"""Parquet files with a column of pictures, as Hugging Face `datasets` writes them: struct{bytes, path}."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from serving.batch import places
from serving.batch.arrow import pyarrow_parquet
from serving.batch.errors import SourceRefused
from serving.batch.units import Sample, Unit

# Rows that are read at once: some ten megabytes of photographs as files.
_READ_ROWS = 64


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """One file."""

    path: str
    image_column: str

    def units(self, first_index: int, unit_size: int) -> Iterator[Unit]:
        """Ranges of rows."""
        identity = places.identity(self.path)
        with opened_parquet(self.path) as file:
            _check_column(file, self.path, self.image_column)
            rows = file.metadata.num_rows
        for number, start in enumerate(range(0, rows, unit_size)):
            stop = min(rows, start + unit_size)
            yield Unit(first_index + number, "parquet", self.path, start, stop, identity=identity)


def read_rows(unit: Unit, image_column: str) -> Iterator[Sample]:
    """The rows of a unit."""
    if places.identity(unit.source) != unit.identity:
        raise SourceRefused(f"{unit.source} has changed since the job began")
    with opened_parquet(unit.source) as file:
        yield from _samples(file, unit, image_column)


def row_keys(unit: Unit, image_column: str) -> Iterator[str]:
    """Keys of a unit's rows, without reading pictures."""
    with opened_parquet(unit.source) as file:
        kind = file.schema_arrow.field(image_column).type
        if not pyarrow_parquet().types.is_struct(kind) or kind.get_field_index("path") < 0:
            yield from (_row_name(unit.source, row) for row in range(unit.start, unit.stop))
            return
        yield from (sample.key for sample in _samples(file, unit, f"{image_column}.path"))


def _samples(file: Any, unit: Unit, column: str) -> Iterator[Sample]:
    groups, row = _row_groups(file, unit.start, unit.stop)
    for batch in file.iter_batches(batch_size=_READ_ROWS, row_groups=groups, columns=[column]):
        for value in batch.column(0):
            if unit.start <= row < unit.stop:
                yield _sample(value.as_py(), unit.source, row)
            row += 1


def _row_groups(file: Any, start: int, stop: int) -> tuple[list[int], int]:
    """Row groups that hold the rows start..stop, and the number of their first row."""
    groups: list[int] = []
    first_row = row = 0
    for number in range(file.metadata.num_row_groups):
        after = row + file.metadata.row_group(number).num_rows
        if row < stop and after > start:
            if not groups:
                first_row = row
            groups.append(number)
        row = after
    return groups, first_row


def _sample(value: Any, path: str, row: int) -> Sample:
    struct = value if isinstance(value, dict) else {"bytes": value}
    return Sample(str(struct.get("path") or _row_name(path, row)), struct.get("bytes"))


def _row_name(path: str, row: int) -> str:
    return f"{PurePosixPath(path).stem}#{row}"


def _check_column(file: Any, path: str, column: str) -> None:
    names = file.schema_arrow.names
    if column not in names:
        raise SourceRefused(f"{path} has no column {column!r}, only {', '.join(names)}: --image-column")
    kind = file.schema_arrow.field(column).type
    types = pyarrow_parquet().types
    is_struct = types.is_struct(kind) and {"bytes"} <= {kind.field(i).name for i in range(kind.num_fields)}
    if not (is_struct or types.is_binary(kind) or types.is_large_binary(kind)):
        raise SourceRefused(f"{path}: column {column!r} is {kind}, not struct{{bytes, path}} or binary")


@contextmanager
def opened_parquet(path: str) -> Iterator[Any]:
    """The file. Raises SourceRefused, PackageMissing, OSError."""
    arrow = pyarrow_parquet()
    try:
        with places.open_read(path) as raw, arrow.parquet.ParquetFile(raw) as file:
            yield file
    except arrow.ArrowInvalid as error:
        raise SourceRefused(f"{path} is not a whole Parquet file: {error}") from error
