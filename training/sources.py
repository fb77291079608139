"""Where pictures lie: folders, tar shards, Parquet files, patterns -> (key, bytes). Knows no pixels.

folder      every picture below it            key = path within the folder
*.tar       WebDataset shard                  key = name of the member without its ending
*.parquet   column of struct{bytes, path}     key = path, or a hash of the bytes where there is none
picture     one file                          key = name of the file
pattern     any of these, by `*`, `?`, `[]`, `**`
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PICTURE_ENDINGS = (".webp", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".avif")
PARQUET_ROWS = 64
"""Rows that are read at once: about 10 MB of photographs as files."""


class DataRefused(ValueError):
    """A source that cannot be used at all, and why."""


@dataclass(frozen=True)
class Entry:
    """One file that claims to be a picture. `read` works until the next entry is asked for."""

    key: str
    read: Callable[[], bytes]
    origin: str | None = None
    """Repository that it was taken from, where the index beside a shard says so (`repo`)."""


def expand(sources: tuple[str, ...]) -> list[Path]:
    """Files and folders that the sources name, each once, patterns in sorted order. Raises DataRefused."""
    found: dict[Path, None] = {}
    for source in sources:
        matches = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
        if not matches:
            raise DataRefused(f"{source} is neither a file nor a folder, and as a pattern it matches nothing")
        found.update(dict.fromkeys(map(Path, matches)))
    return list(found)


def entries(sources: tuple[str, ...], image_column: str, kinds: tuple[str, ...]) -> Iterator[Entry]:
    """Every entry of the sources, in an order that stays the same. Raises DataRefused."""
    for path in expand(sources):
        index = _index(path, kinds)
        for entry in _entries_of(path, image_column):
            row = index.get(entry.key, {})
            if not kinds or row.get("kind") in kinds:
                yield replace(entry, origin=row.get("repo"))


def _entries_of(path: Path, image_column: str) -> Iterator[Entry]:
    ending = path.suffix.lower()
    if path.is_dir():
        return _folder(path)
    if ending == ".tar":
        return _shard(path)
    if ending == ".parquet":
        return _parquet(path, image_column)
    if ending in PICTURE_ENDINGS:
        return iter([Entry(path.name, path.read_bytes)])
    raise DataRefused(f"{path} is neither a folder, a .tar, a .parquet nor a picture")


def _folder(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURE_ENDINGS:
            yield Entry(path.relative_to(folder).as_posix(), path.read_bytes)


def _shard(path: Path) -> Iterator[Entry]:
    try:
        with tarfile.open(path) as shard:
            for member in shard:
                if member.isfile() and Path(member.name).suffix.lower() in PICTURE_ENDINGS:
                    yield Entry(Path(member.name).stem, lambda m=member: _read(shard, m))
    except tarfile.TarError as error:
        raise DataRefused(f"{path} is not a whole tar file: {error}") from error


def _read(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = shard.extractfile(member)
    assert stream is not None  # isfile() was checked
    with stream:
        return stream.read()


def _parquet(path: Path, column: str) -> Iterator[Entry]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataRefused(f"{path.name} needs pyarrow: pip install 'tessera[train]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise DataRefused(
                    f"{path.name} has no column {column!r}, only {', '.join(names)}: set data.image_column"
                )
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=[column]):
                for value in batch.column(0):
                    yield _parquet_entry(value.as_py(), f"{path.name}, column {column!r}")
    except pyarrow.ArrowInvalid as error:
        raise DataRefused(f"{path} is not a whole Parquet file: {error}") from error


def _parquet_entry(value: Any, place: str) -> Entry:
    """Null pictures come as no bytes, so that they are counted with the unreadable ones."""
    row = value if isinstance(value, dict) else {"bytes": value}
    data = b"" if row.get("bytes") is None else row["bytes"]
    if not isinstance(data, bytes):
        raise DataRefused(f"{place} holds {type(value).__name__}, not struct{{bytes, path}} or bytes")
    return Entry(row.get("path") or hashlib.sha256(data).hexdigest()[:16], lambda: data)


def _index(source: Path, kinds: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Rows of the index beside a shard (one JSON line per picture) by key; only `kinds` cannot do without."""
    index = source.with_suffix(".index.jsonl.gz")
    if index.is_file():
        with gzip.open(index, "rt") as lines:
            return {row["key"]: row for row in map(json.loads, lines)}
    if kinds:
        raise DataRefused(f"kinds {kinds} need an index, and {index.name} is not beside {source.name}")
    return {}
