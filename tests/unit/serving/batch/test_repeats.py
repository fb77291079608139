"""Two pictures that would be written to one place: the second is an error, whoever does it and whenever."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from batch_fakes import (
    InProcess,
    decode,
    job,
    outputs,
    picture_file,
    pictures,
    run,
    write_parquet,
    write_tar,
    write_tree,
)

from serving.batch.encode_job import open_sources
from serving.batch.options import EncodeOptions, SetBudget
from serving.batch.repeats import encode_units
from serving.batch.units import Unit
from tokenizer.datasets import TokenStream
from tokenizer.sequence import TokenSequence


def errors(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "errors.jsonl").read_text().splitlines()
    return [(error["key"], error["reason"]) for error in map(json.loads, lines)]


def repeated_tar(path: Path, keys: str) -> Path:
    """A shard with a picture for each letter; all differ."""
    with tarfile.open(path, "w") as shard:
        for number, key in enumerate(keys):
            source = write_tree(path.parent / f"{path.stem}-{number}", 1) / "a" / "000.png"
            source.write_bytes(picture_file(number))
            shard.add(source, f"{key}.png")
    return path


def repeated_rows(path: Path, names: str) -> Path:
    rows = [{"bytes": picture_file(number), "path": f"{name}.png"} for number, name in enumerate(names)]
    pyarrow.parquet.write_table(pyarrow.table({"image": pyarrow.array(rows)}), path, row_group_size=2)
    return path


def second_tree(folder: Path) -> Path:
    """With one path of `write_tree`, and another picture there."""
    write_tree(folder, 1)
    (folder / "a" / "000.png").write_bytes(picture_file(77))
    (folder / "a" / "001.png").write_bytes(picture_file(78))
    return folder


def sources(tmp_path: Path) -> dict[str, tuple[list[Path], list[str]]]:
    """Sources with repeats for a folder, and the keys of the second ones."""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    return {
        "trees": ([write_tree(tmp_path / "tree", 7), second_tree(tmp_path / "tree2")], ["a/000.png"]),
        "shards": (
            [write_tar(tmp_path / "x" / "0.tar", 2), write_tar(tmp_path / "y" / "0.tar", 3)],
            ["x/000", "x/001"],
        ),
        "shard": ([repeated_tar(tmp_path / "r.tar", "abcadbb")], ["a", "b", "b"]),
        "rows": ([repeated_rows(tmp_path / "r.parquet", "abcdabe")], ["a.png", "b.png"]),
    }


@pytest.mark.parametrize("budget", [{}, {"set_budget": SetBudget(2000)}], ids=["each", "set"])
@pytest.mark.parametrize("name", ["trees", "shards", "shard", "rows"])
def test_a_second_stream_of_one_place_is_an_error_and_the_first_stays(tmp_path, name, budget):
    found, repeated = sources(tmp_path)[name]
    totals = run(tmp_path / "out", found, sink="folder", **budget)
    assert errors(tmp_path / "out") == [(key, "KEY_REPEATED") for key in repeated]
    streams = {path: data for path, data in outputs(tmp_path / "out").items() if path.endswith(".tsr")}
    assert len(streams) == totals.pictures == totals.samples - len(repeated)
    firsts = run(tmp_path / "first", found[0], sink="folder")
    alone = outputs(tmp_path / "first")
    if not budget:
        assert {path: streams[path] for path in alone if path.endswith(".tsr")}.items() <= alone.items()
    assert firsts.pictures <= totals.pictures


@pytest.mark.parametrize("name", ["trees", "shards", "shard", "rows"])
def test_a_job_stopped_anywhere_finds_the_same_repeats(tmp_path, name):
    found, _ = sources(tmp_path)[name]
    run(tmp_path / "whole", found, sink="folder")
    for stop in range(1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / str(stop), found, InProcess(stop - 1), sink="folder")
        run(tmp_path / str(stop), found, sink="folder")
        assert outputs(tmp_path / str(stop)) == outputs(tmp_path / "whole")


def test_units_done_in_any_order_write_the_same(tmp_path):
    found, _ = sources(tmp_path)["trees"]
    run(tmp_path / "forward", found, sink="folder")

    class Backward(InProcess):
        def run(self, settings, units):
            return super().run(settings, reversed(list(units)))

    run(tmp_path / "backward", found, Backward(), sink="folder")
    assert outputs(tmp_path / "backward") == outputs(tmp_path / "forward")


def test_a_unit_brings_its_repeats_to_other_processes(tmp_path):
    options = EncodeOptions(("-",), sink="folder", unit_size=2)
    paths = ("/x/a.png", "/x/b.png", "x/a.png", "/x/../x/b.jpg")
    units = list(encode_units(open_sources(["-"], image_column="image", stdin=paths), options))
    assert [unit.repeats for unit in units] == [(), (0,)]
    assert [Unit.from_json(json.loads(json.dumps(unit.as_json()))) for unit in units] == units


def test_a_key_that_comes_again_in_a_webdataset_shard_is_an_error(tmp_path):
    for source in (
        repeated_rows(tmp_path / "r.parquet", "aab"),
        repeated_tar(tmp_path / "r.tar", "aab"),
    ):
        out = tmp_path / f"out-{source.name}"
        totals = run(out, source, sink="webdataset")
        assert (totals.pictures, totals.reasons) == (2, {"KEY_REPEATED": 1})
        with tarfile.open(out / "data" / "part-000000.tar") as shard:
            names = shard.getnames()
        assert len(names) == len(set(names))
        assert decode(tmp_path / f"back-{source.name}", out).pictures == 2


def test_parquet_keeps_rows_of_one_key(tmp_path):
    totals = run(tmp_path / "out", repeated_rows(tmp_path / "r.parquet", "aaab"))
    assert (totals.pictures, totals.errors) == (4, 0)


@pytest.mark.parametrize("sink", ["folder", "webdataset"])
def test_pictures_of_one_stem_all_come_back(tmp_path, sink):
    source = tmp_path / "tree"
    source.mkdir()
    for seed, name in enumerate(("a.jpg", "a.png", "a.webp", "a.b.png")):
        (source / name).write_bytes(picture_file(seed))
    run(tmp_path / "out", source, sink=sink, unit_size=9)
    keys = [row.key for row in TokenStream(tmp_path / "out" / "data")]
    assert sorted(keys) == ["a.b.png", "a.jpg", "a.png", "a.webp"]
    assert decode(tmp_path / "back", tmp_path / "out").pictures == 4
    assert len(pictures(tmp_path / "back" / "data")) == 4


def test_a_shard_that_went_through_a_job_gets_the_new_stream_alone(tmp_path):
    run(tmp_path / "once", write_tar(tmp_path / "a.tar", 2), sink="webdataset")
    shard = tmp_path / "once" / "data" / "part-000000.tar"
    run(tmp_path / "twice", shard, sink="webdataset", max_tokens=5)
    with tarfile.open(tmp_path / "twice" / "data" / "part-000000.tar") as again:
        names = again.getnames()
        assert TokenSequence.from_bytes(again.extractfile("x/000.tsr").read()).length == 5
    assert sorted(names) == sorted(
        f"x/{n:03d}{ending}" for n in (0, 1) for ending in (".png", ".cls", ".tsr")
    )


def test_two_trees_of_streams_do_not_overwrite_each_other(tmp_path):
    for name in "ab":
        source = write_tree(tmp_path / f"tree-{name}", 2 + (name == "b"))
        run(tmp_path / name, source, sink="folder")
    totals = decode(tmp_path / "back", [tmp_path / "a", tmp_path / "b"])
    assert (totals.pictures, totals.reasons) == (3, {"KEY_REPEATED": 2})
    assert len(pictures(tmp_path / "back" / "data")) == 3
    assert decode(tmp_path / "tars", [tmp_path / "a", tmp_path / "b"], sink="webdataset").pictures == 5


def test_sources_without_repeats_have_none(tmp_path):
    found = [write_tar(tmp_path / "a.tar", 5), write_parquet(tmp_path / "b.parquet", 5)]
    assert [unit.repeats for unit in job(tmp_path / "out", found, sink="folder").units()] == [()] * 4
