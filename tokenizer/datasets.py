"""Reading what `tessera batch encode` wrote: token sequences for training a language model. Needs pyarrow.

    TokenTable    map-style: len(), [i]          one Parquet folder; DataLoader takes it as it is
    TokenStream   iterable                       any sink; shuffled shards, split over ranks and workers
    pad, pack     sequences -> rectangles        with begin, end and padding ids
    prefix_of     a sequence -> a random prefix  every prefix of a stream is a picture

Token ids are 0..255; BEGIN, END and PADDING are beyond them. torch is needed for `TokenStream.as_torch` only.
"""

from __future__ import annotations

import random
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.errors import TokenizerError
from tokenizer.sequence import TokenSequence

BEGIN, END, PADDING = 256, 257, 258
VOCABULARY_SIZE = 259
"""256 tokens, BEGIN, END, PADDING."""

Tokens = NDArray[np.uint8]
Ids = NDArray[np.int64]
# Row groups kept in memory by a table: two megabytes each at full length.
_CACHED_GROUPS = 8


class DatasetError(TokenizerError):
    """These files are not what a job writes, or nothing is left of them."""

    reason = "DATASET_INVALID"


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One picture of a data set."""

    key: str
    sequence: TokenSequence

    @property
    def token_ids(self) -> Tokens:
        """uint8[length], read-only."""
        return self.sequence.token_ids


class TokenTable:
    """Rows by number, pictures that failed left out.

    >>> table = TokenTable("tokens/data")                                       # doctest: +SKIP
    >>> len(table), table[0].sequence.length                                    # doctest: +SKIP
    (117218, 256)
    """

    def __init__(self, folder: str | Path) -> None:
        """A folder of .parquet files, or one file. Raises DatasetError."""
        self._files = _files(Path(folder), ".parquet")
        self._groups = [
            (path, group, rows) for path in self._files for group, rows in enumerate(_good_rows(path))
        ]
        self._ends = np.cumsum([len(rows) for _, _, rows in self._groups])
        self._read = lru_cache(_CACHED_GROUPS)(_read_group)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> TokenRow:
        """Raises IndexError."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        number = int(np.searchsorted(self._ends, index, side="right"))
        path, group, rows = self._groups[number]
        first = int(self._ends[number]) - len(rows)
        return _row(self._read(path, group), int(rows[index - first]))

    def __getstate__(self) -> dict[str, Any]:
        # A DataLoader's workers get the index and read for themselves.
        return {name: value for name, value in self.__dict__.items() if name != "_read"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._read = lru_cache(_CACHED_GROUPS)(_read_group)


@dataclass(frozen=True, slots=True)
class TokenStream:
    """Rows one after the other, from Parquet, WebDataset or `.tsr` files; memory of one shard and the buffer.

    Shards are shuffled by `seed + epoch`, and rows within `shuffle_rows`. Rank r of `world_size` reads every
    `world_size`-th shard, and each worker of a DataLoader its part of those.
    """

    folder: str | Path
    shuffle_rows: int = 0
    """Size of the shuffle buffer; 0 keeps the order."""
    seed: int = 0
    epoch: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise DatasetError(f"rank must be 0..{self.world_size - 1}, got {self.rank}")

    def at_epoch(self, epoch: int) -> TokenStream:
        """The same rows in another order."""
        return replace(self, epoch=epoch)

    def __iter__(self) -> Iterator[TokenRow]:
        """Raises DatasetError."""
        yield from self.part(0, 1)

    def part(self, worker: int, workers: int) -> Iterator[TokenRow]:
        """What one of several workers of this rank reads."""
        shards = _shards(Path(self.folder))
        draw = random.Random(f"{self.seed}-{self.epoch}")
        if self.shuffle_rows:
            draw.shuffle(shards)
        share = self.rank * workers + worker
        mine = shards[share :: self.world_size * workers]
        rows = (row for read in mine for row in read())
        return _shuffled(rows, self.shuffle_rows, draw) if self.shuffle_rows else rows

    def as_torch(self, transform: Callable[[TokenRow], Any] | None = None) -> Any:
        """A torch IterableDataset that splits itself over the workers of a DataLoader."""
        from torch.utils.data import IterableDataset, get_worker_info

        stream = self

        class Rows(IterableDataset[Any]):
            def __iter__(self) -> Iterator[Any]:
                info = get_worker_info()
                part = stream.part(0, 1) if info is None else stream.part(info.id, info.num_workers)
                return part if transform is None else map(transform, part)

        return Rows()


def prefix_of(
    tokens: Tokens, draw: random.Random, *, min_tokens: int = 1, max_tokens: int | None = None
) -> Tokens:
    """A random prefix, log-uniform in length, so that short ones, which carry most, are seen often."""
    longest = min(len(tokens), max_tokens or len(tokens))
    shortest = min(max(1, min_tokens), longest)
    if longest <= shortest:
        return tokens[:longest]
    return tokens[: round(float(np.exp(draw.uniform(np.log(shortest), np.log(longest)))))]


def pad(
    sequences: Sequence[Tokens], *, max_tokens: int, begin: int | None = BEGIN, end: int | None = END
) -> tuple[Ids, NDArray[np.bool_]]:
    """(ids int64[B, L], mask bool[B, L]): each cut to `max_tokens`, framed, and padded to the longest.

    `end` follows a whole sequence only: a cut one has no end. The mask is True on what is not padding.

    >>> ids, mask = pad([np.array([7, 8, 9], np.uint8), np.array([5], np.uint8)], max_tokens=2)
    >>> ids.tolist(), mask.sum(axis=1).tolist()
    ([[256, 7, 8], [256, 5, 257]], [3, 3])
    """
    rows = [_framed(tokens, max_tokens, begin, end) for tokens in sequences]
    width = max(map(len, rows), default=0)
    ids = np.full((len(rows), width), PADDING, np.int64)
    mask = np.zeros((len(rows), width), np.bool_)
    for row, values in enumerate(rows):
        ids[row, : len(values)] = values
        mask[row, : len(values)] = True
    return ids, mask


def pack(
    sequences: Iterable[Tokens],
    *,
    block_tokens: int,
    max_tokens: int | None = None,
    begin: int | None = BEGIN,
    end: int | None = END,
) -> Iterator[Ids]:
    """Blocks int64[block_tokens] of sequences end to end, no padding; an unfilled rest is dropped.

    >>> blocks = pack([np.array([1, 2], np.uint8), np.array([3], np.uint8)], block_tokens=3)
    >>> [block.tolist() for block in blocks]
    [[256, 1, 2], [257, 256, 3]]
    """
    if block_tokens < 1:
        raise DatasetError(f"block_tokens must be at least 1, got {block_tokens}")
    waiting: list[int] = []
    for tokens in sequences:
        waiting.extend(_framed(tokens, max_tokens or len(tokens), begin, end))
        while len(waiting) >= block_tokens:
            yield np.array(waiting[:block_tokens], np.int64)
            del waiting[:block_tokens]


def _framed(tokens: Tokens, max_tokens: int, begin: int | None, end: int | None) -> list[int]:
    body = tokens[:max_tokens].tolist()
    is_whole = len(tokens) <= max_tokens
    return [*([] if begin is None else [begin]), *body, *([end] if end is not None and is_whole else [])]


def _shuffled(rows: Iterator[TokenRow], buffer_rows: int, draw: random.Random) -> Iterator[TokenRow]:
    buffer: list[TokenRow] = []
    for row in rows:
        buffer.append(row)
        if len(buffer) > buffer_rows:
            place = draw.randrange(len(buffer))
            buffer[place], buffer[-1] = buffer[-1], buffer[place]
            yield buffer.pop()
    draw.shuffle(buffer)
    yield from buffer


def _shards(folder: Path) -> list[Callable[[], Iterator[TokenRow]]]:
    """A reader for each file."""
    readers: dict[str, Callable[[Path], Iterator[TokenRow]]] = {
        ".parquet": _parquet_rows,
        ".tar": _tar_rows,
        ".tsr": _stream_row,
    }
    for ending, reader in readers.items():
        try:
            return [lambda path=path, reader=reader: reader(path) for path in _files(folder, ending)]  # type: ignore[misc]
        except DatasetError:
            continue
    raise DatasetError(f"{folder} holds no .parquet, .tar or .tsr")


def _files(folder: Path, ending: str) -> list[Path]:
    if folder.is_file() and folder.suffix == ending:
        return [folder]
    found = sorted(folder.rglob(f"[!.]*{ending}"))
    if not found:
        raise DatasetError(f"{folder} holds no {ending} file")
    return found


def _parquet_rows(path: Path) -> Iterator[TokenRow]:
    for group, good in enumerate(_good_rows(path)):
        columns = _read_group(path, group)
        for number in good:
            yield _row(columns, int(number))


def _tar_rows(path: Path) -> Iterator[TokenRow]:
    with tarfile.open(path) as shard:
        for member in shard:
            if member.name.endswith(".tsr") and (content := shard.extractfile(member)) is not None:
                yield TokenRow(member.name.removesuffix(".tsr"), TokenSequence.from_bytes(content.read()))


def _stream_row(path: Path) -> Iterator[TokenRow]:
    yield TokenRow(path.name.removesuffix(".tsr"), TokenSequence.from_bytes(path.read_bytes()))


def _good_rows(path: Path) -> list[NDArray[np.int64]]:
    """Rows with tokens, by row group. Raises DatasetError."""
    parquet = _pyarrow_parquet()
    try:
        with parquet.ParquetFile(path) as file:
            groups = [
                file.read_row_group(group, columns=["length"]).column(0).is_valid().to_numpy()
                for group in range(file.metadata.num_row_groups)
            ]
    except (LookupError, ValueError, OSError) as error:  # ArrowInvalid is a ValueError
        raise DatasetError(f"{path} is no Parquet file of a tessera job: {error}") from error
    return [np.flatnonzero(valid) for valid in groups]


def _read_group(path: Path, group: int) -> dict[str, Any]:
    with _pyarrow_parquet().ParquetFile(path) as file:
        table = file.read_row_group(group)
    return {name: table.column(name).combine_chunks() for name in table.column_names}


def _row(columns: dict[str, Any], row: int) -> TokenRow:
    value = columns["token_ids"][row]
    tokens = value.values.to_numpy().tobytes() if hasattr(value, "values") else value.as_py()
    numbers = {name: columns[name][row].as_py() for name in _NUMBERS}
    sequence = TokenSequence(
        tokens,
        Size(numbers["width_px"], numbers["height_px"]),
        columns["fingerprint"][row].as_py(),
        Size(numbers["canvas_width_px"], numbers["canvas_height_px"]),
        coding=Coding(columns["coding"][row].as_py()),
    )
    return TokenRow(columns["key"][row].as_py(), sequence)


_NUMBERS = ("width_px", "height_px", "canvas_width_px", "canvas_height_px")


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DatasetError("reading Parquet needs pyarrow: pip install 'tessera[batch]'") from error
    return parquet
