"""Where pictures may lie: folders, shards, Parquet files and patterns give the same pictures."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from generated_pictures import picture
from PIL import Image
from pyarrow import parquet

from training.config import DataConfig
from training.data import load_pictures
from training.sources import DataRefused, entries, expand

PIXELS = {f"{number:02d}": picture(number, 20, 24) for number in range(6)}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def write_shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    return path


def write_parquet(path: Path, values: list[object], column: str = "image") -> Path:
    parquet.write_table(pa.table({"label": list(range(len(values))), column: values}), path)
    return path


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """The same six pictures in every form."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for key, pixels in PIXELS.items():
        (folder / f"{key}.png").write_bytes(png(pixels))
    (folder / "notes.txt").write_text("no picture")
    files = {f"{key}.png": png(pixels) for key, pixels in PIXELS.items()}
    shard = write_shard(tmp_path / "shard.tar", {**files, "00.json": b"{}"})
    rows: list[object] = [{"bytes": data, "path": name} for name, data in files.items()]
    structs = write_parquet(tmp_path / "structs.parquet", rows)
    plain = write_parquet(tmp_path / "plain.parquet", list(files.values()))
    return {
        "folder": str(folder),
        "shard": str(shard),
        "parquet": str(structs),
        "plain": str(plain),
        "pattern": str(folder / "*.png"),
        "deep": str(tmp_path / "**" / "0?.png"),
    }


@pytest.mark.parametrize("form", ["folder", "shard", "parquet", "plain", "pattern", "deep"])
def test_every_form_gives_the_same_pictures(places: dict[str, str], form: str) -> None:
    loaded = load_pictures(DataConfig(sources=(places[form],), held_out_share=0.0), "train")
    assert all(np.array_equal(a, b) for a, b in zip(loaded.pictures, PIXELS.values(), strict=True))
    if form != "plain":
        assert [Path(key).stem for key in loaded.keys] == list(PIXELS)


def test_a_picture_without_a_name_is_known_by_its_bytes(places: dict[str, str], tmp_path: Path) -> None:
    """So its split is the same in whatever file and row it lies."""
    (first, *_) = entries((places["plain"],), "image", ())
    moved = write_parquet(tmp_path / "moved.parquet", [{"bytes": first.read(), "path": None}])
    assert [entry.key for entry in entries((str(moved),), "image", ())] == [first.key]


def test_an_empty_row_counts_as_an_unreadable_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [None, {"bytes": None, "path": "gone.png"}, {"bytes": png(PIXELS["00"]), "path": "here.png"}]
    path = write_parquet(tmp_path / "rows.parquet", rows)
    loaded = load_pictures(DataConfig(sources=(str(path),), held_out_share=0.0), "train")
    assert loaded.keys == ("here.png",)
    assert "2 ImageMissing" in capsys.readouterr().out


def test_the_image_column_can_have_another_name(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows.parquet", [png(PIXELS["00"])], column="jpg")
    assert len(list(entries((str(path),), "jpg", ()))) == 1
    with pytest.raises(DataRefused, match="no column 'image', only label, jpg"):
        list(entries((str(path),), "image", ()))
    with pytest.raises(DataRefused, match="column 'label' holds int"):
        list(entries((str(path),), "label", ()))


def test_a_pattern_is_sorted_and_no_file_is_read_twice(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).touch()
    found = expand((str(tmp_path / "b.tar"), str(tmp_path / "*.tar")))
    assert [path.name for path in found] == ["b.tar", "a.tar"]


def test_only_the_wanted_kinds_of_a_shard_are_read(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "shard.tar", {f"{key}.png": b"" for key in PIXELS})
    with pytest.raises(DataRefused, match=r"shard\.index\.jsonl\.gz is not beside"):
        list(entries((str(shard),), "image", ("photo",)))
    with gzip.open(tmp_path / "shard.index.jsonl.gz", "wt") as index:
        for number, key in enumerate(PIXELS):
            index.write(json.dumps({"key": key, "kind": "photo" if number < 2 else "art"}) + "\n")
    assert [entry.key for entry in entries((str(shard),), "image", ("photo",))] == ["00", "01"]


def test_the_index_beside_a_shard_says_where_its_pictures_come_from(tmp_path: Path) -> None:
    """Pictures that it does not name, and those of a shard without one, are sources of their own."""
    shard = write_shard(
        tmp_path / "shard.tar", {f"{key}.png": png(PIXELS[key]) for key in ("00", "01", "02")}
    )
    config = DataConfig(sources=(str(shard),), held_out_share=0.0)
    assert load_pictures(config, "train").sources == ("00", "01", "02")
    with gzip.open(tmp_path / "shard.index.jsonl.gz", "wt") as index:
        for key in ("00", "01"):
            index.write(json.dumps({"key": key, "repo": "someone/holidays"}) + "\n")
    loaded = load_pictures(config, "train")
    assert loaded.sources == ("someone/holidays", "someone/holidays", "02")
    assert (loaded.first(1) + loaded.first(3)).sources == (loaded.sources[0], *loaded.sources)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent", None, "as a pattern it matches nothing"),
        ("absent-*.tar", None, "as a pattern it matches nothing"),
        ("notes.txt", b"hello", "neither a folder, a .tar, a .parquet nor a picture"),
        ("broken.tar", b"hello" * 200, "is not a whole tar file"),
        ("broken.parquet", b"PAR1" + b"hello" * 200, "is not a whole Parquet file"),
    ],
)
def test_what_is_no_source_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataRefused, match=message):
        list(entries((str(tmp_path / name),), "image", ()))
