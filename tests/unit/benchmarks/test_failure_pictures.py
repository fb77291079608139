"""The pictures of the failure sheet: the same on every run, and of one size but for the portrait."""

import numpy as np
import pytest

from benchmarks.failure_pictures import SIDE_PX, failure_pictures

pytest.importorskip("matplotlib", reason="the portrait comes with matplotlib (extra bench)")


def test_every_computed_picture_has_the_size_of_the_default_canvas() -> None:
    shapes = {label: pixels.shape for label, pixels in failure_pictures().items() if label != "face"}
    assert set(shapes.values()) == {(SIDE_PX, SIDE_PX, 3)}


def test_the_pictures_are_the_same_on_every_run() -> None:
    first, second = failure_pictures(), failure_pictures()
    assert all(np.array_equal(first[label], second[label]) for label in first)


def test_the_paragraph_stays_on_its_page() -> None:
    page = failure_pictures()["text"]
    assert np.all(page[-8:] == 255)
    assert np.all(page[:, -8:] == 255)
