"""What a job reads: any cut into units gives the same samples, and nothing is skipped in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_fakes import picture_file, write_parquet, write_tar, write_tree

from serving.batch.errors import SourceRefused
from serving.batch.sources import open_sources, read_samples, units_of
from serving.batch.units import Plan, Sample, Unit


def units(*names: Path | str, size: int = 3, stdin: tuple[str, ...] = ()) -> list[Unit]:
    sources = open_sources([str(name) for name in names], image_column="image", stdin=stdin)
    return list(units_of(sources, size))


def samples(found: list[Unit]) -> list[Sample]:
    return [sample for unit in found for sample in read_samples(unit, "image")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_any_unit_size_reads_the_same_samples(tmp_path, size):
    write_tree(tmp_path / "tree", 8)
    names = (tmp_path / "tree", write_tar(tmp_path / "a.tar", 7), write_parquet(tmp_path / "b.parquet", 10))
    found = units(*names, size=size)
    assert samples(found) == samples(units(*names, size=5))
    assert [unit.index for unit in found] == list(range(len(found)))
    assert all(unit.count <= size for unit in found)
    assert sum(unit.count for unit in found) == 8 + 7 + 10 == Plan.of(iter(found)).samples


def test_a_tree_is_read_in_sorted_order_by_its_paths(tmp_path):
    write_tree(tmp_path, 4)
    (tmp_path / "notes.txt").write_text("no picture")
    assert [s.key for s in samples(units(tmp_path))] == ["a/000.png", "a/002.png", "b/001.png", "b/003.png"]


def test_a_webdataset_sample_keeps_its_other_fields(tmp_path):
    (first, *_) = samples(units(write_tar(tmp_path / "a.tar", 2)))
    assert first == Sample("x/000", picture_file(0), {".png": picture_file(0), ".cls": b"0"})


def test_a_parquet_row_without_a_picture_is_a_sample_without_one(tmp_path):
    *_, last = samples(units(write_parquet(tmp_path / "b.parquet", 5)))
    assert last == Sample("b#4", None)


def test_a_path_on_stdin_that_is_no_file_is_a_sample_without_a_picture(tmp_path):
    good = tmp_path / "a.png"
    good.write_bytes(picture_file(0))
    names = (str(good), str(tmp_path / "gone.png"))
    assert samples(units("-", stdin=names)) == [Sample(names[0], picture_file(0)), Sample(names[1], None)]


def test_a_shard_that_changes_after_the_plan_is_refused(tmp_path):
    found = units(write_tar(tmp_path / "a.tar", 4))
    write_tar(tmp_path / "a.tar", 5)
    with pytest.raises(SourceRefused, match="has changed"):
        samples(found)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tar", b"x" * 2000, "not a whole tar"),
        ("a.parquet", b"x" * 2000, "not a whole Parquet"),
        ("a.txt", b"x", "neither a folder, a .tar, a .parquet nor a picture"),
    ],
)
def test_a_source_that_is_not_what_its_name_says_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceRefused, match=message):
        samples(units(tmp_path / name))


def test_a_name_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(SourceRefused, match="matches nothing"):
        units(tmp_path / "*.tar")


def test_a_missing_column_is_refused_with_those_that_are_there(tmp_path):
    path = write_parquet(tmp_path / "b.parquet", 3)
    with pytest.raises(SourceRefused, match="no column 'photo', only image"):
        list(open_sources([str(path)], image_column="photo")[0].units(0, 3))


def test_a_pattern_names_shards_in_sorted_order(tmp_path):
    for name in ("b.tar", "a.tar"):
        write_tar(tmp_path / name, 2)
    assert [Path(unit.source).name for unit in units(tmp_path / "*.tar")] == ["a.tar", "b.tar"]


def test_an_fsspec_url_reads_as_the_file_does(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    data = write_tar(tmp_path / "a.tar", 4).read_bytes()
    memory = fsspec.filesystem("memory")
    memory.pipe("/set/a.tar", data)
    memory.pipe("/tree/x/1.png", picture_file(1))
    local = samples(units(tmp_path / "a.tar"))
    assert samples(units("memory://set/a.tar")) == local
    assert samples(units("memory://tree")) == [Sample("x/1.png", picture_file(1))]
