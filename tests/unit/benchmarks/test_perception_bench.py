"""Which decodes a perception run asks for, with and without a realism knob, and what its page says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated_pictures import picture

from benchmarks.perception import has_realism, knobs, measure_ours
from benchmarks.perception_report import (
    BYTE_COUNTS,
    FIDELITY,
    NOISE,
    REALISM,
    Point,
    Report,
    page,
    plot,
)
from benchmarks.pictures import Picture
from benchmarks.report import can_plot
from benchmarks.sliced_wasserstein import TextureDistance
from tokenizer import Size, TokenSequence
from tokenizer.distortion import DistortionCurve


class WithKnob:
    name, version, fingerprint = "model", "1", "0011aabb"

    has_realism = True


class WithoutKnob(WithKnob):
    has_realism = False


class Shifting(WithKnob):
    """Decodes the first picture, ever nearer with more bytes, and with a shift where realism is asked for."""

    pixels = picture(7, 64, 64).clip(40, 200)

    def encode(self, pictures: list[Any]) -> list[TokenSequence]:
        curve = DistortionCurve((1, 1024), (25.0, 25.0))
        return [TokenSequence(bytes(1024), Size(64, 64), "0011aabb", curve=curve) for _ in pictures]

    def decode(self, sequences: list[TokenSequence], realism: float = 0, **_: Any) -> list[np.ndarray]:
        return [self.pixels + np.uint8(10 + 6 * realism) for _ in sequences]


def test_every_realism_is_measured_beside_grain_of_its_psnr() -> None:
    model: Any = Shifting()
    pictures = [Picture("one", Shifting.pixels, "")]
    distance = TextureDistance([Shifting.pixels])
    asked = [{"realism": 0.5, "steps": 4}, {"realism": 1.0, "steps": 4}]
    points = measure_ours(model, pictures, distance, asked)
    first = [point for point in points if point.byte_count == BYTE_COUNTS[0]]
    assert [point.series for point in first] == [FIDELITY, REALISM, NOISE, REALISM, NOISE]
    assert first[1].knob == first[2].knob == asked[0]
    for refined, noise in (first[1:3], first[3:5]):
        assert noise.psnr_db == pytest.approx(refined.psnr_db, abs=0.02)
        assert noise.mean_distance > refined.mean_distance  # a shift leaves the texture as it was


def test_a_model_without_a_knob_is_measured_at_fidelity_only() -> None:
    plain: Any = WithoutKnob()
    assert not has_realism(plain)
    assert knobs(plain, [0.5, 1.0], [1, 4]) == []


def test_realism_zero_is_fidelity_and_measured_once() -> None:
    model: Any = WithKnob()
    assert has_realism(model)
    asked = knobs(model, [0.0, 0.5], [1, 4])
    assert asked == [{"realism": 0.5, "steps": 1}, {"realism": 0.5, "steps": 4}]


def test_the_page_tells_a_model_without_a_knob_and_peers_that_were_left_out() -> None:
    model: Any = WithKnob()
    plain = [Point(FIDELITY, count, {}, 20.0, (0.3, 0.1)) for count in BYTE_COUNTS]
    text = page(Report("set", 2, tuple(plain), (32, 16), (0.03, 0.01)), model)
    assert "fidelity only" in text and "left out" in text
    assert "| Tessera, fidelity | 20.00 | 200 | 300 | 100 |" in text
    assert "grain" not in text


def test_the_page_sets_every_refined_point_against_grain_of_the_same_psnr(tmp_path: Path) -> None:
    model: Any = WithKnob()
    knob = {"realism": 1.0, "steps": 4}
    points = [Point(FIDELITY, count, {}, 20.0, (0.3, 0.1)) for count in BYTE_COUNTS]
    points += [Point(REALISM, count, knob, 19.0, (0.1, 0.1)) for count in BYTE_COUNTS]
    at_first = [count == BYTE_COUNTS[0] for count in BYTE_COUNTS]
    points += [
        Point(NOISE, count, knob, 19.0, (0.05, 0.05) if first else (0.2, 0.2))
        for count, first in zip(BYTE_COUNTS, at_first, strict=True)
    ]
    report = Report("set", 2, tuple(points), (32, 16), (0.03, 0.01))
    text = page(report, model)
    assert "fidelity only" not in text and "left out" in text
    assert "| Tessera, realism 1, steps 4 | 19.00 | 100 | 100 | 100 |" in text
    assert "| grain of the same PSNR, realism 1, steps 4 | 19.00 | 50 | 50 | 50 |" in text
    assert "in 4 of 5 cases" in text
    assert "| Tessera, realism 1, steps 4 | 100 / 50 | 100 / 200 |" in text
    if can_plot():
        plot(report, tmp_path / "plot.png", title="set")
        assert (tmp_path / "plot.png").stat().st_size
