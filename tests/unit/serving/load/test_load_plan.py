"""What a load may be: mixes, rates, sizes; nonsense is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.load.arrivals import schedule
from serving.load.pictures import from_folder, generated, parse_formats, parse_sizes
from serving.load.plan import Arrivals, InvalidLoad, LoadPlan, RpcKind, parse_mix
from serving.load.processes import run
from tokenizer.canvas import Size
from tokenizer.errors import ImageError
from tokenizer.images import read_image


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clients": 2, "rate_per_s": 3.0},
        {"clients": 0},
        {"clients": 1_000_000},
        {"rate_per_s": 0.0},
        {"rate_per_s": float("nan")},
        {"rate_per_s": float("inf")},
        {"clients": 1, "duration_s": 0.0},
        {"clients": 1, "duration_s": float("nan")},
        {"clients": 1, "warm_up_s": -1.0},
        {"clients": 1, "deadline_s": 0.0},
        {"clients": 1, "slo_s": -0.1},
        {"clients": 1, "slo_s": 2.0, "deadline_s": 1.0},
        {"clients": 1, "connections": 0},
        {"clients": 1, "mix": {}},
        {"clients": 1, "mix": {RpcKind.ENCODE: 0.0}},
    ],
)
def test_a_load_that_makes_no_sense_is_refused(settings):
    with pytest.raises(InvalidLoad):
        LoadPlan("localhost:1", **settings)


@pytest.mark.parametrize("text", ["", "encode=", "encode=x", "encode=-1", "encode=nan", "encode=0", "paint=1",
                                  "encode,encode", "encode=inf"])  # fmt: skip
def test_a_mix_that_makes_no_sense_is_refused(text):
    with pytest.raises(InvalidLoad):
        parse_mix(text)


def test_a_mix_is_weights_by_call():
    assert parse_mix("encode=3, decode_stream=0.5,truncate") == {
        RpcKind.ENCODE: 3.0,
        RpcKind.DECODE_STREAM: 0.5,
        RpcKind.TRUNCATE: 1.0,
    }


@given(st.sampled_from(Arrivals), st.floats(0.5, 500), st.floats(0.1, 5), st.integers(0, 9))
def test_a_schedule_increases_lies_within_the_run_and_is_the_same_again(arrivals, rate, duration, seed):
    due = schedule(arrivals, rate, duration, seed)
    assert (np.diff(due) >= 0).all()
    assert not due.size or (due[0] >= 0 and due[-1] < duration + 1e-9)
    assert (due == schedule(arrivals, rate, duration, seed)).all()


def test_poisson_arrivals_have_the_asked_rate_and_exponential_gaps():
    due = schedule(Arrivals.POISSON, 1000, 20, seed=1)
    gaps = np.diff(due)
    assert 19_000 < len(due) < 21_000
    # Of an exponential distribution, mean and standard deviation are equal.
    assert 0.95 < gaps.std() / gaps.mean() < 1.05


@pytest.mark.parametrize("text", ["", "256", "0x10", "10x-1", "256x256,", "70000x10", "9000x9000"])
def test_a_size_that_makes_no_sense_is_refused(text):
    with pytest.raises(InvalidLoad):
        parse_sizes(text)


def test_generated_pictures_have_the_asked_sizes_and_formats_and_are_the_same_again():
    sizes = parse_sizes("64x48, 33x50")
    made = generated(sizes, parse_formats("jpg,png,webp,tensor"), seed=3)
    assert [picture.size for picture in made] == [Size(64, 48)] * 4 + [Size(33, 50)] * 4
    for picture in made:
        pixels = picture.pixels if picture.file is None else read_image(picture.file)
        assert pixels.shape[:2] == (picture.size.height_px, picture.size.width_px)
    again = generated(sizes, ("jpeg", "png", "webp", "tensor"), seed=3)
    assert [picture.file for picture in again] == [picture.file for picture in made]


def test_a_generated_jpeg_is_about_as_long_as_one_of_a_photograph():
    (picture,) = generated([Size(256, 256)])
    # Kodak's pictures at this size and quality 90 take 14 to 38 KB.
    assert 10_000 < len(picture.file) < 45_000


def test_a_folder_is_read_by_name_and_a_broken_file_in_it_is_named_before_the_run(tmp_path: Path):
    with pytest.raises(InvalidLoad, match="is no folder"):
        from_folder(tmp_path / "missing")
    with pytest.raises(InvalidLoad, match="holds no"):
        from_folder(tmp_path)
    for picture, name in zip(generated([Size(40, 30), Size(20, 30)]), ("b.jpg", "a.JPG"), strict=True):
        (tmp_path / name).write_bytes(picture.file)
    (tmp_path / "notes.txt").write_text("no picture")
    assert [picture.size for picture in from_folder(tmp_path)] == [Size(20, 30), Size(40, 30)]
    (tmp_path / "c.png").write_bytes(b"<html>")
    with pytest.raises(ImageError):
        from_folder(tmp_path)


@pytest.mark.parametrize("processes", [0, 3, 65])
def test_more_processes_than_clients_or_sense_are_refused(processes):
    with pytest.raises(InvalidLoad):
        run(LoadPlan("localhost:1", clients=2), {}, processes)
