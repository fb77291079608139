"""Where plots are drawn: the file is there afterwards, and no figure stays open."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.report import drawing

pyplot = pytest.importorskip("matplotlib.pyplot", reason="plots need matplotlib (extra bench)")


def test_a_drawing_is_saved_and_closed(tmp_path: Path) -> None:
    with drawing(tmp_path / "plot.png", "title", (4, 2), (2, 1)) as (left, right):
        left.plot([1, 2], [3, 4])
        right.plot([1, 2], [4, 3])
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size == (520, 260)
    assert pyplot.get_fignums() == []


def test_a_drawing_that_fails_is_closed_and_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data"), drawing(tmp_path / "plot.png", "title", (4, 2)):
        raise ValueError("no data")
    assert not (tmp_path / "plot.png").exists()
    assert pyplot.get_fignums() == []
