"""Synthetic pictures for the fit: of the canvas, different, and the same on every run."""

from __future__ import annotations

import numpy as np

from tokenizer.canvas import Size
from training.synthetic import synthetic_pictures

CANVAS = Size(48, 32)


def test_they_are_pictures_of_the_canvas_and_all_different() -> None:
    pictures = synthetic_pictures(40, CANVAS)
    assert all(p.shape == (32, 48, 3) and p.dtype == np.uint8 for p in pictures.pictures)
    assert len({p.tobytes() for p in pictures.pictures}) > 30


def test_they_are_the_same_on_every_run_and_when_more_are_asked_for() -> None:
    few, many = synthetic_pictures(8, CANVAS), synthetic_pictures(16, CANVAS)
    assert few.keys == many.keys[:8]
    assert all(np.array_equal(a, b) for a, b in zip(few.pictures, many.pictures, strict=False))


def test_saturated_colours_are_among_them() -> None:
    ends = [np.isin(p, (0, 255)).mean() for p in synthetic_pictures(40, CANVAS).pictures]
    assert max(ends) == 1.0
