"""Pictures for training: splits that never move, batches that are pure, damaged files left out."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from generated_pictures import picture
from PIL import Image

from tokenizer.canvas import Size
from training.config import DataConfig
from training.data import PictureSet, centre_crop, load_pictures, random_crop, split_of

CANVAS = Size(32, 16)


def numbered(count: int) -> PictureSet:
    """Flat pictures whose colour is their number, so that a batch tells which were picked."""
    pictures = tuple(np.full((40, 48, 3), number, np.uint8) for number in range(count))
    return PictureSet(tuple(str(number) for number in range(count)), pictures)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("key", "split"),
    [
        ("0001", "train"),
        ("flower", "train"),
        ("picture 8", "validation"),
        ("picture 14", "validation"),
        ("picture 47", "calibration"),
        ("picture 81", "calibration"),
    ],
)
def test_the_split_of_a_key_never_moves(key: str, split: str) -> None:
    assert split_of(key, 0.0625) == split


def test_held_out_shares_are_about_what_was_asked() -> None:
    splits = [split_of(f"key {number}", 0.1) for number in range(5000)]
    assert abs(splits.count("validation") / 5000 - 0.1) < 0.02
    assert abs(splits.count("calibration") / 5000 - 0.1) < 0.02


def test_a_larger_held_out_share_only_takes_from_training() -> None:
    for number in range(500):
        if split_of(f"key {number}", 0.05) == "validation":
            assert split_of(f"key {number}", 0.1) == "validation"


def test_a_batch_is_a_pure_function_of_its_step() -> None:
    pictures = PictureSet(("a", "b", "c"), tuple(picture(seed, 64, 48) for seed in range(3)))
    first = pictures.batch(5, 4, CANVAS, seed=1)
    pictures.batch(0, 4, CANVAS, seed=1)
    pictures.batch(99, 2, CANVAS, seed=2)
    assert np.array_equal(pictures.batch(5, 4, CANVAS, seed=1), first)
    assert first.shape == (4, 16, 32, 3)
    assert not np.array_equal(pictures.batch(5, 4, CANVAS, seed=2), first)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_every_epoch_shows_each_picture_once(batch_size: int) -> None:
    pictures = numbered(12)
    steps = 12 // batch_size
    epochs = []
    for epoch in range(2):
        batches = [
            pictures.batch(epoch * steps + step, batch_size, CANVAS, seed=0)[:, 0, 0, 0]
            for step in range(steps)
        ]
        epochs.append(np.concatenate(batches).tolist())
        assert sorted(epochs[-1]) == list(range(12))
    assert epochs[0] != epochs[1]


def test_a_batch_may_be_larger_than_the_set() -> None:
    assert len(numbered(3).batch(0, 8, CANVAS, seed=0)) == 8


def test_centre_batches_give_every_picture_in_order() -> None:
    batches = list(numbered(5).centre_batches(2, CANVAS))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert np.concatenate(batches)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_centre_crop_is_the_middle() -> None:
    pixels = picture(0, 40, 36)
    assert np.array_equal(centre_crop(pixels, CANVAS), pixels[10:26, 4:36])


@pytest.mark.parametrize("size", [(8, 8), (100, 8), (8, 100), (32, 16), (31, 200)])
def test_a_crop_of_any_picture_has_the_size_of_the_canvas(size: tuple[int, int]) -> None:
    pixels = picture(0, *size)
    for crop in (centre_crop(pixels, CANVAS), random_crop(pixels, CANVAS, np.random.default_rng(0))):
        assert crop.shape == (16, 32, 3)


def test_folders_and_shards_give_the_same_pictures(tmp_path: Path) -> None:
    pixels = {f"{number:02d}": picture(number, 20, 24) for number in range(6)}
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for key, value in pixels.items():
            (folder / f"{key}.png").write_bytes(png(value))
            for name, data in ((f"{key}.png", png(value)), (f"{key}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    for source in (folder, tmp_path / "shard.tar"):
        loaded = load_pictures(DataConfig(sources=(str(source),), held_out_share=0.0), "train")
        assert [Path(key).stem for key in loaded.keys] == sorted(pixels)
        assert all(np.array_equal(a, b) for a, b in zip(loaded.pictures, pixels.values(), strict=True))


def test_splits_share_no_picture(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.png").write_bytes(png(picture(number, 16, 16)))
    config = DataConfig(sources=(str(tmp_path),), held_out_share=0.3)
    keys = [load_pictures(config, split).keys for split in ("train", "validation", "calibration")]
    assert sorted(key for part in keys for key in part) == sorted(f"{number}.png" for number in range(30))


def test_damaged_and_too_small_pictures_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.png").write_bytes(png(picture(0, 16, 16)))
    (tmp_path / "small.png").write_bytes(png(picture(0, 15, 64)))
    (tmp_path / "broken.png").write_bytes(png(picture(0, 64, 64))[:200])
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    (tmp_path / "notes.txt").write_text("no picture at all")
    loaded = load_pictures(DataConfig(sources=(str(tmp_path),), held_out_share=0.0), "train")
    assert loaded.keys == ("good.png",)
    assert "left out 3" in capsys.readouterr().out


def test_a_limit_counts_usable_pictures(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(png(picture(number, 16, 16)))
    config = DataConfig(sources=(str(tmp_path),), limit=2, held_out_share=0.0)
    assert len(load_pictures(config, "train")) == 2


def test_no_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pictures for train"):
        load_pictures(DataConfig(sources=(str(tmp_path),)), "train")
    with pytest.raises(ValueError, match="neither a folder nor a tar shard"):
        load_pictures(DataConfig(sources=(str(tmp_path / "absent"),)), "train")
    with pytest.raises(ValueError, match="split must be one of"):
        load_pictures(DataConfig(sources=(str(tmp_path),)), "test")
