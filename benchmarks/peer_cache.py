"""Scores of the peers, kept in a JSON file so that a new model of ours is measured in minutes.

A kept row is used again only for the same pixels, the same codec version, the same search and the same
byte counts. Holds numbers only, never pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

from rich.progress import track

from benchmarks.codec import Codec
from benchmarks.peers import all_peers
from benchmarks.pictures import Picture
from benchmarks.scores import Row, Score, Series
from benchmarks.search import SEARCH_VERSION, SIDES_OF_256, best_row

Kept = dict[str, dict[str, list[list[object] | None]]]


@dataclass(frozen=True, slots=True)
class Task:
    """One codec on one picture. Names the codec, because its functions cannot travel to another process."""

    codec_name: str
    picture: Picture
    byte_counts: tuple[int, ...]
    sides_of_256: tuple[int, ...]


def measure_peers(
    codecs: Sequence[Codec],
    pictures: Sequence[Picture],
    byte_counts: tuple[int, ...],
    path: Path,
    *,
    jobs: int,
    sides_of_256: tuple[int, ...] = SIDES_OF_256,
) -> list[Series]:
    """Scores of every codec on every picture; what the file at `path` lacks is measured and added to it."""
    keys = {codec.name: _key(codec, byte_counts, sides_of_256) for codec in codecs}
    kept = _without_outdated(read_kept(path), keys)
    tasks = [
        Task(codec.name, picture, byte_counts, sides_of_256)
        for codec in codecs
        for picture in pictures
        if picture.digest not in kept.get(keys[codec.name], {})
    ]
    for task, row in _run(tasks, jobs):
        kept.setdefault(keys[task.codec_name], {})[task.picture.digest] = _pack(row)
        # At once: one takes seconds to minutes, and a run may be killed at any time.
        write_kept(path, kept)
    return [
        Series(codec.name, tuple(_unpack(kept[keys[codec.name]][picture.digest]) for picture in pictures))
        for codec in codecs
    ]


def kept_series(
    codec: Codec, pictures: Sequence[Picture], byte_counts: Sequence[int], path: Path
) -> Series | None:
    """What was kept of one codec, measuring nothing; None unless every picture is there."""
    rows = read_kept(path).get(_key(codec, byte_counts, SIDES_OF_256), {})
    if any(picture.digest not in rows for picture in pictures):
        return None
    return Series(codec.name, tuple(_unpack(rows[picture.digest]) for picture in pictures))


def _run(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Row]]:
    if not tasks:
        return
    if jobs == 1:
        yield from _show(zip(tasks, map(_measure, tasks), strict=True), len(tasks))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from _show(zip(tasks, pool.map(_measure, tasks), strict=True), len(tasks))


def _show(results: Iterable[tuple[Task, Row]], total: int) -> Iterator[tuple[Task, Row]]:
    yield from track(results, description="peer codecs", total=total)


def _measure(task: Task) -> Row:
    (codec,) = (codec for codec in all_peers(max(task.byte_counts)) if codec.name == task.codec_name)
    return best_row(task.picture, codec, task.byte_counts, task.sides_of_256)


def _key(codec: Codec, byte_counts: Sequence[int], sides_of_256: Sequence[int]) -> str:
    key = f"{codec.name}; {codec.version}; search {SEARCH_VERSION}; bytes {','.join(map(str, byte_counts))}"
    # Rows of the usual sides were kept before there were others.
    return key if sides_of_256 == SIDES_OF_256 else f"{key}; sides {','.join(map(str, sides_of_256))}"


def _without_outdated(kept: Kept, keys: Mapping[str, str]) -> Kept:
    """Without rows of other versions of the codecs in `keys`; what is not installed here stays."""
    return {key: rows for key, rows in kept.items() if keys.get(key.partition(";")[0], key) == key}


def _pack(row: Row) -> list[list[object] | None]:
    return [None if cell is None else list(astuple(cell)) for cell in row]


def _unpack(cells: list[list[object] | None]) -> Row:
    return tuple(None if cell is None else Score(*cell) for cell in cells)  # type: ignore[arg-type]


def read_kept(path: Path) -> Kept:
    """What was kept, empty if nothing was."""
    return json.loads(path.read_text()) if path.exists() else {}


def write_kept(path: Path, kept: Kept) -> None:
    """One line per picture, replaced in one step so that an interrupt leaves the old file."""
    blocks = []
    for key, rows in kept.items():
        lines = [f"    {json.dumps(digest)}: {json.dumps(row)}" for digest, row in rows.items()]
        blocks.append(f"  {json.dumps(key)}: {{\n" + ",\n".join(lines) + "\n  }")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("{\n" + ",\n".join(blocks) + "\n}\n")
    partial.replace(path)
