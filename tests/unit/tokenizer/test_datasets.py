"""Reading token sequences back: every row once, in any split, from any sink."""

from __future__ import annotations

import io
import pickle
import random
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tokenizer.canvas import Size
from tokenizer.datasets import (
    BEGIN,
    END,
    PADDING,
    DatasetError,
    TokenStream,
    TokenTable,
    pack,
    pad,
    prefix_of,
)
from tokenizer.sequence import TokenSequence


def sequence(number: int) -> TokenSequence:
    return TokenSequence(bytes([number % 256] * (1 + number % 9)), Size(64, 48), "0011aabb")


def write_parquet(folder: Path, shards: int, rows: int, *, binary: bool = False) -> Path:
    """Shards with a failed picture as every fourth row; row groups of three."""
    folder.mkdir()
    kind = pyarrow.binary() if binary else pyarrow.list_(pyarrow.uint8())
    for shard in range(shards):
        records = []
        for number in range(shard * rows, (shard + 1) * rows):
            one = sequence(number)
            failed = number % 4 == 3
            records.append(
                {
                    "key": f"{number}",
                    "token_ids": None if failed else (one.tokens if binary else list(one.tokens)),
                    "length": None if failed else one.length,
                    "width_px": 64,
                    "height_px": 48,
                    "canvas_width_px": one.canvas.width_px,
                    "canvas_height_px": one.canvas.height_px,
                    "coding": "range",
                    "fingerprint": "0011aabb",
                }
            )
        table = pyarrow.Table.from_pylist(records)
        column = table.schema.get_field_index("token_ids")
        table = table.set_column(column, "token_ids", table.column("token_ids").cast(kind))
        pyarrow.parquet.write_table(table, folder / f"part-{shard}.parquet", row_group_size=3)
    return folder


def good(count: int) -> list[int]:
    return [number for number in range(count) if number % 4 != 3]


@pytest.mark.parametrize("binary", [False, True])
def test_a_table_gives_every_good_row_by_its_number(tmp_path, binary):
    table = TokenTable(write_parquet(tmp_path / "set", 3, 10, binary=binary))
    assert len(table) == len(good(30))
    assert [int(table[i].key) for i in range(len(table))] == good(30)
    assert int(table[-1].key) == good(30)[-1]
    assert all(table[i].sequence == sequence(int(table[i].key)) for i in range(len(table)))
    with pytest.raises(IndexError):
        table[len(table)]


def test_a_table_goes_to_another_process(tmp_path):
    table = TokenTable(write_parquet(tmp_path / "set", 2, 5))
    table[0]
    assert pickle.loads(pickle.dumps(table))[3] == table[3]


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (2, 1), (1, 3), (2, 2), (5, 3)])
@pytest.mark.parametrize("shuffle_rows", [0, 4])
def test_ranks_and_workers_share_the_rows_without_gap_or_double(tmp_path, world, workers, shuffle_rows):
    folder = write_parquet(tmp_path / "set", 7, 4)
    seen = Counter(
        int(row.key)
        for rank in range(world)
        for worker in range(workers)
        for row in TokenStream(folder, shuffle_rows, rank=rank, world_size=world).part(worker, workers)
    )
    assert seen == Counter(good(28))


def test_an_epoch_has_its_own_order_and_a_seed_repeats_it(tmp_path):
    stream = TokenStream(write_parquet(tmp_path / "set", 4, 12), shuffle_rows=20)
    first, again, second = (
        [row.key for row in one] for one in (stream, stream.at_epoch(0), stream.at_epoch(1))
    )
    assert first == again != second and sorted(first) == sorted(second)


def test_a_webdataset_and_a_folder_read_as_parquet_does(tmp_path):
    (tmp_path / "tsr").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for number in (0, 1):
            data = sequence(number).to_bytes()
            (tmp_path / "tsr" / f"{number}.tsr").write_bytes(data)
            for ending, content in ((".cls", b"1"), (".tsr", data)):
                member = tarfile.TarInfo(f"{number}{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    parquet = list(TokenStream(write_parquet(tmp_path / "set", 1, 2)))
    assert list(TokenStream(tmp_path / "a.tar")) == list(TokenStream(tmp_path / "tsr")) == parquet


def test_a_torch_loader_with_workers_sees_every_row_once(tmp_path):
    data = pytest.importorskip("torch.utils.data")
    folder = write_parquet(tmp_path / "set", 4, 6)
    loader = data.DataLoader(TokenStream(folder).as_torch(_key), batch_size=None, num_workers=2)
    assert Counter(loader) == Counter(good(24))


def _key(row) -> int:
    return int(row.key)


def test_a_torch_loader_takes_a_table_as_it_is(tmp_path):
    data = pytest.importorskip("torch.utils.data")
    table = TokenTable(write_parquet(tmp_path / "set", 2, 6))
    loader = data.DataLoader(table, batch_size=4, collate_fn=lambda rows: [int(row.key) for row in rows])
    assert [key for keys in loader for key in keys] == good(12)


def test_padding_cuts_begins_ends_and_masks():
    ids, mask = pad([np.arange(5, dtype=np.uint8), np.arange(2, dtype=np.uint8)], max_tokens=4)
    assert ids.tolist() == [[BEGIN, 0, 1, 2, 3], [BEGIN, 0, 1, END, PADDING]]
    assert mask.tolist() == [[True] * 5, [True] * 4 + [False]]
    bare, _ = pad([np.arange(5, dtype=np.uint8)], max_tokens=3, begin=None, end=None)
    assert bare.tolist() == [[0, 1, 2]]


def test_packing_loses_only_the_unfilled_rest():
    sequences = [np.full(n, n, np.uint8) for n in (3, 1, 7, 2)]
    flat = [id for one in sequences for id in (BEGIN, *one.tolist(), END)]
    blocks = list(pack(sequences, block_tokens=4))
    assert np.concatenate(blocks).tolist() == flat[: 4 * len(blocks)]
    assert len(flat) - 4 * len(blocks) < 4


def test_prefixes_are_prefixes_within_their_bounds():
    tokens, draw = np.arange(200, dtype=np.uint8), random.Random(0)
    lengths = []
    for _ in range(300):
        prefix = prefix_of(tokens, draw, min_tokens=8, max_tokens=100)
        assert np.array_equal(prefix, tokens[: len(prefix)])
        lengths.append(len(prefix))
    assert min(lengths) >= 8 and max(lengths) <= 100
    assert 20 < np.median(lengths) < 40  # log-uniform: the geometric mean, 28


@pytest.mark.parametrize("name", ["nothing", "strange"])
def test_a_folder_without_sequences_is_refused(tmp_path, name):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "strange").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "strange" / "a.parquet")
    with pytest.raises(DatasetError):
        TokenTable(tmp_path / name)
    with pytest.raises(DatasetError):
        list(TokenStream(tmp_path / name))
