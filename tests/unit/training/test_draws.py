"""What a step draws: pure in seed and step, the same batch for any number of processes."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from tokenizer.canvas import Size, is_canvas
from training.config import TrainConfig
from training.draws import Windows, draw_canvas, draw_windows
from training.recipes import canvases_of_area

SQUARE, WIDE, TALL = Size(32, 32), Size(48, 16), Size(16, 48)
CONFIG = TrainConfig(name="draws", canvases=(SQUARE, WIDE, TALL), scale_range=(0.6, 1.0), batch_size=4)
SIZES = np.asarray([(40, 48), (16, 16), (64, 33), (200, 30), (100, 100)])


def equal(a: Windows, b: Windows) -> bool:
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))


def test_windows_are_a_pure_function_of_seed_and_step() -> None:
    first = draw_windows(CONFIG, SIZES, SQUARE, 5)
    draw_windows(CONFIG, SIZES, SQUARE, 0)
    assert equal(draw_windows(CONFIG, SIZES, SQUARE, 5), first)
    assert not equal(draw_windows(CONFIG, SIZES, SQUARE, 6), first)
    assert not equal(draw_windows(replace(CONFIG, seed=1), SIZES, SQUARE, 5), first)


def test_the_parts_of_a_batch_are_the_batch() -> None:
    whole = draw_windows(CONFIG, SIZES, WIDE, 3)
    parts = [whole.part(slice(0, 1)), whole.part(slice(1, 4))]
    for field in fields(whole):
        joined = np.concatenate([getattr(part, field.name) for part in parts])
        assert np.array_equal(joined, getattr(whole, field.name))


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_every_epoch_shows_each_picture_once(batch_size: int) -> None:
    config, sizes = replace(CONFIG, batch_size=batch_size), np.full((12, 2), 32)
    steps = 12 // batch_size
    epochs = []
    for epoch in range(2):
        drawn = [draw_windows(config, sizes, SQUARE, epoch * steps + step).picture for step in range(steps)]
        epochs.append(np.concatenate(drawn).tolist())
        assert sorted(epochs[-1]) == list(range(12))
    assert epochs[0] != epochs[1]


def test_a_batch_may_be_larger_than_the_set() -> None:
    assert len(draw_windows(replace(CONFIG, batch_size=16), SIZES, SQUARE, 0)) == 16


@pytest.mark.parametrize("canvas", CONFIG.canvases)
def test_a_window_lies_within_its_picture_and_has_the_aspect_of_the_canvas(canvas: Size) -> None:
    for step in range(50):
        windows = draw_windows(CONFIG, SIZES, canvas, step)
        height, width = SIZES[windows.picture].T
        assert (windows.top >= 0).all() and (windows.top + windows.height <= height).all()
        assert (windows.left >= 0).all() and (windows.left + windows.width <= width).all()
        ideal = windows.height * canvas.width_px / canvas.height_px
        # Half a pixel of rounding in either side, once for the largest window and once for the scaled.
        assert (np.abs(windows.width - ideal) <= 1 + canvas.width_px / canvas.height_px).all()


def test_a_window_is_between_the_scales_of_the_largest_that_fits() -> None:
    config = replace(CONFIG, batch_size=500)
    share = draw_windows(config, np.asarray([(400, 600)]), SQUARE, 0).height / 400
    assert share.min() == pytest.approx(0.6, abs=0.01)
    assert share.max() == pytest.approx(1.0, abs=0.01)
    assert share.mean() == pytest.approx(0.8, abs=0.02)


def test_half_of_the_windows_are_mirrored() -> None:
    flips = draw_windows(replace(CONFIG, batch_size=1000), SIZES, SQUARE, 0).flip
    assert flips.mean() == pytest.approx(0.5, abs=0.05)


def test_without_scaling_a_picture_as_high_as_the_canvas_is_only_moved_sideways() -> None:
    windows = draw_windows(replace(CONFIG, scale_range=(1.0, 1.0)), np.asarray([(32, 80)]), SQUARE, 0)
    assert (windows.height == 32).all() and (windows.width == 32).all() and (windows.top == 0).all()
    assert len(set(windows.left.tolist())) > 1


def test_canvases_are_drawn_by_their_weights() -> None:
    def shares(weights: tuple[float, ...]) -> list[float]:
        config = replace(CONFIG, canvas_weights=weights)
        drawn = [draw_canvas(config, step) for step in range(3000)]
        return [drawn.count(canvas) / 3000 for canvas in CONFIG.canvases]

    assert shares(()) == pytest.approx([1 / 3] * 3, abs=0.03)
    assert shares((3, 1, 0)) == pytest.approx([0.75, 0.25, 0], abs=0.03)


@pytest.mark.parametrize("area_px", [128 * 128, 256 * 256, 512 * 512])
def test_canvases_of_an_area_reach_from_1_to_2_to_2_to_1(area_px: int) -> None:
    canvases = canvases_of_area(area_px)
    aspects = [canvas.width_px / canvas.height_px for canvas in canvases]
    side = round(area_px**0.5)
    assert next(iter(canvases)) == Size(side, side)
    assert all(is_canvas(canvas) for canvas in canvases)
    # Sides are multiples of 16, which is much on a small canvas.
    assert all(abs(canvas.area_px / area_px - 1) < 0.13 for canvas in canvases)
    assert max(aspects) == pytest.approx(2, rel=0.1) and min(aspects) == pytest.approx(0.5, rel=0.1)
    assert all(canvases[Size(c.height_px, c.width_px)] == weight for c, weight in canvases.items())
