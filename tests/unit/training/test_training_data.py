"""Pictures for training: splits that never move, damaged files left out, memory known beforehand."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generated_pictures import picture
from PIL import Image

from tokenizer.canvas import Size
from tokenizer.preprocess import resize
from training.config import DataConfig
from training.data import NoPictures, PictureSet, centre_crop, load_pictures, split_of
from training.sources import DataRefused

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


def test_centre_batches_give_every_picture_in_order() -> None:
    batches = list(numbered(5).centre_batches(2, CANVAS))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert np.concatenate(batches)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_centre_crop_is_the_largest_middle_part_at_the_size_of_the_canvas() -> None:
    pixels = picture(0, 40, 16)
    assert np.array_equal(centre_crop(pixels, CANVAS), pixels[:, 4:36])
    larger = picture(0, 80, 32)
    assert np.array_equal(centre_crop(larger, CANVAS), resize(larger[:, 8:72], CANVAS))


@pytest.mark.parametrize("size", [(8, 8), (100, 8), (8, 100), (32, 16), (31, 200)])
def test_a_crop_of_any_picture_has_the_size_of_the_canvas(size: tuple[int, int]) -> None:
    assert centre_crop(picture(0, *size), CANVAS).shape == (16, 32, 3)


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


def test_it_is_said_why_pictures_were_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.png").write_bytes(png(picture(0, 16, 16)))
    (tmp_path / "small.png").write_bytes(png(picture(0, 15, 64)))
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    load_pictures(DataConfig(sources=(str(tmp_path),), held_out_share=0.0), "train")
    said = capsys.readouterr().out
    assert "1 TooSmall" in said
    assert "1 ImageFormatUnsupported" in said


def test_large_pictures_can_be_kept_smaller(tmp_path: Path) -> None:
    pixels = picture(0, 96, 64)
    (tmp_path / "large.png").write_bytes(png(pixels))
    (tmp_path / "small.png").write_bytes(png(picture(0, 20, 32)))
    config = DataConfig(sources=(str(tmp_path),), short_side_px=32, held_out_share=0.0)
    large, small = load_pictures(config, "train").pictures
    assert np.array_equal(large, resize(pixels, Size(48, 32)))
    assert small.shape == (32, 20, 3)


def test_a_set_that_does_not_fit_is_refused_before_a_picture_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(data: bytes) -> np.ndarray:
        raise AssertionError("decoded")

    monkeypatch.setattr("training.data.read_image", decode)
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(picture(number, 512, 512)))
    needed_gib = 4 * 512 * 512 * 3 / 2**30
    fitting = DataConfig(sources=(str(tmp_path),), held_out_share=0.0, max_memory_gib=needed_gib * 1.5)
    with pytest.raises(AssertionError, match="decoded"):
        load_pictures(fitting, "train")
    with pytest.raises(DataRefused, match=r"0\.00293 GiB as uint8 in each of 2 processes, and 0\.00439 GiB"):
        load_pictures(fitting, "train", processes=2)
    with pytest.raises(AssertionError, match="decoded"):  # a quarter of the pixels
        load_pictures(replace(fitting, short_side_px=256), "train", processes=2)


def test_no_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    config = DataConfig(sources=(str(tmp_path),), held_out_share=0.0)
    with pytest.raises(NoPictures, match=r"no pictures for train.*1 ImageFormatUnsupported"):
        load_pictures(config, "train")
    with pytest.raises(ValueError, match="split must be one of"):
        load_pictures(config, "test")
