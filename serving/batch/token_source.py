"""What `tessera batch encode` wrote, or any `.tsr` files -> units -> streams. Knows no model.

folder of a job   its data/
*.parquet         one unit; a row that was an error when it was encoded stays one without a stream
*.tar             one unit; every member `.tsr`, with the sample's other fields
*.tsr             below a folder, `unit_size` at a time       key = path within the folder
pattern           any of the files, by `*`, `?`, `[]`, `**`
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from serving.batch import places
from serving.batch.errors import SourceRefused
from serving.batch.manifest import MANIFEST
from serving.batch.names import picture_name
from serving.batch.parquet_source import opened_parquet
from serving.batch.reports import REPORT
from serving.batch.rows import Failure, failure_of
from serving.batch.sinks import DATA, STREAM_ENDING
from serving.batch.sources import file_units
from serving.batch.tar_source import PICTURE_ENDINGS, members_of, samples_from
from serving.batch.units import Unit
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.errors import BitstreamError, TokenizerError
from tokenizer.sequence import TokenSequence

_COLUMNS = (
    "key", "token_ids", "width_px", "height_px", "canvas_width_px", "canvas_height_px", "coding",
    "fingerprint",
)  # fmt: skip
# Rows that are read at once: half a megabyte of tokens.
_READ_ROWS = 256


@dataclass(frozen=True, slots=True)
class StreamSample:
    """A stream, or why it cannot be read; neither of a picture that was bad when it was encoded."""

    key: str
    sequence: TokenSequence | None = None
    failure: Failure | None = None
    fields: Mapping[str, bytes] = field(default_factory=dict)
    """Other members of a WebDataset sample, without its picture."""
    is_poison: bool = False
    """A worker died over it before."""


def token_units(names: Sequence[str], unit_size: int, ending: str) -> Iterator[Unit]:
    """All units of all names, numbered through, whose pictures get this ending. Raises SourceRefused."""
    if not names:
        raise SourceRefused("name at least one folder of a job, .parquet, .tar or .tsr")
    seen: dict[str, str] = {}
    index = 0
    for name in names:
        for unit in _units(name, unit_size, ending):
            if unit.kind != "files":
                _refuse_second(seen, shard_name(unit), unit.source)
            yield Unit.from_json(unit.as_json() | {"index": index})
            index += 1


def shard_name(unit: Unit) -> str:
    """What the output of a unit is called: as its input shard, or by the number of the unit in a tree."""
    return unit.name if unit.kind == "files" else PurePosixPath(unit.source).stem


def read_streams(unit: Unit) -> Iterator[StreamSample]:
    """The streams of a unit. Raises SourceRefused if the shard is not what it was when it was planned."""
    if unit.kind == "files":
        return _read_files(unit)
    if places.identity(unit.source) != unit.identity:
        raise SourceRefused(f"{unit.source} has changed since the job began")
    return all_streams(unit.source)


def all_streams(path: str) -> Iterator[StreamSample]:
    """What a shard holds. Raises SourceRefused, PackageMissing, OSError."""
    return _read_tar(path) if path.endswith(".tar") else _read_parquet(path)


def _units(name: str, unit_size: int, ending: str) -> Iterator[Unit]:
    matches = [name]
    if not places.exists(name):
        matches = [] if places.is_url(name) else sorted(glob.glob(name, recursive=True))
    if not matches:
        raise SourceRefused(f"{name} is neither a file nor a folder, and as a pattern it matches nothing")
    single = []
    for match in matches:
        if places.is_folder(match):
            yield from _folder_units(match, unit_size, ending)
        elif match.endswith((".parquet", ".tar")):
            yield _shard_unit(match)
        elif match.endswith(STREAM_ENDING):
            single.append(match)
        else:
            raise SourceRefused(f"{match} is neither a folder, a .parquet, a .tar nor a {STREAM_ENDING}")
    yield from file_units("", ((path, 0) for path in single), 0, unit_size)


def _folder_units(folder: str, unit_size: int, ending: str) -> Iterator[Unit]:
    """Shards below a folder, and the `.tsr` files."""
    if places.exists(places.join(folder, MANIFEST)):
        if not places.exists(places.join(folder, REPORT)):
            raise SourceRefused(f"the job in {folder} is not finished: run its command again first")
        folder = places.join(folder, DATA)
    found = False
    for path, _ in _visible(folder):
        if path.endswith((".parquet", ".tar")):
            yield _shard_unit(places.join(folder, path))
            found = True
    for unit in file_units(folder, _stream_files(folder, ending), 0, unit_size):
        yield unit
        found = True
    if not found:
        raise SourceRefused(f"{folder} holds no .parquet, .tar or {STREAM_ENDING}")


def _stream_files(folder: str, ending: str) -> Iterator[tuple[str, int]]:
    """Refuses two files that would become one picture; those are neighbours in one folder."""
    parent, seen = "", dict[str, str]()
    for path, size_bytes in _visible(folder):
        if not path.endswith(STREAM_ENDING):
            continue
        if (here := str(PurePosixPath(path).parent)) != parent:
            parent, seen = here, {}
        _refuse_second(seen, picture_name(path.removesuffix(STREAM_ENDING), ending), path)
        yield path, size_bytes


def _visible(folder: str) -> Iterator[tuple[str, int]]:
    """All but hidden files: drafts of writers that died, or what a file system keeps for itself."""
    return (entry for entry in places.walk(folder) if not PurePosixPath(entry[0]).name.startswith("."))


def _shard_unit(path: str) -> Unit:
    identity = places.identity(path)
    if path.endswith(".tar"):
        return Unit(0, "tar", path, 0, _count_streams(path), identity=identity)
    with opened_parquet(path) as file:
        if missing := [name for name in _COLUMNS if name not in file.schema_arrow.names]:
            raise SourceRefused(f"{path} has no column {missing[0]!r}: no Parquet file of `batch encode`")
        return Unit(0, "parquet", path, 0, file.metadata.num_rows, identity=identity)


def _count_streams(path: str) -> int:
    members = streams = 0
    for member in members_of(path):
        members, streams = members + 1, streams + member.name.endswith(STREAM_ENDING)
    if members and not streams:
        raise SourceRefused(f"{path} holds no {STREAM_ENDING}")
    return streams


def _refuse_second(seen: dict[str, str], name: str, place: str) -> None:
    if (first := seen.setdefault(name, place)) != place:
        raise SourceRefused(f"{first} and {place} would be written to one place, {name}")


def _read_files(unit: Unit) -> Iterator[StreamSample]:
    for member in unit.members:
        key = member.removesuffix(STREAM_ENDING)
        try:
            data = places.read_all(places.join(unit.source, member) if unit.source else member)
        except OSError as error:
            yield StreamSample(key, failure=Failure("FILE_UNREADABLE", error.strerror or str(error)))
            continue
        yield _unpacked(key, data, {})


def _read_tar(path: str) -> Iterator[StreamSample]:
    for sample in samples_from(path):
        others = {
            ending: data
            for ending, data in sample.fields.items()
            if not ending.lower().endswith((STREAM_ENDING, *PICTURE_ENDINGS))
        }
        for ending, data in sample.fields.items():
            if ending.endswith(STREAM_ENDING):
                yield _unpacked(sample.key + ending.removesuffix(STREAM_ENDING), data, others)


def _unpacked(key: str, data: bytes, fields: Mapping[str, bytes]) -> StreamSample:
    try:
        return StreamSample(key, TokenSequence.from_bytes(data), fields=fields)
    except TokenizerError as error:
        return StreamSample(key, failure=failure_of(error))


def _read_parquet(path: str) -> Iterator[StreamSample]:
    with opened_parquet(path) as file:
        for batch in file.iter_batches(batch_size=_READ_ROWS, columns=list(_COLUMNS)):
            for record in batch.to_pylist():
                yield _from_record(record)


def _from_record(record: dict[str, Any]) -> StreamSample:
    key = str(record["key"])
    if record["token_ids"] is None:
        return StreamSample(key)
    try:
        sequence = TokenSequence(
            bytes(record["token_ids"]),
            Size(int(record["width_px"]), int(record["height_px"])),
            str(record["fingerprint"]),
            Size(int(record["canvas_width_px"]), int(record["canvas_height_px"])),
            coding=Coding(record["coding"]),
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        return StreamSample(key, failure=failure_of(BitstreamError(f"the row is damaged: {error}")))
    return StreamSample(key, sequence)
