"""What a set of scores says: means, falls, explained variance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import peer_cache
from benchmarks.peer_cache import kept_series, measure_peers
from benchmarks.pictures import Picture
from benchmarks.scores import Score, Series, explained_variance, monotonicity, score


def cell(psnr_db: float) -> Score:
    return Score(10, psnr_db, None, None, "")


def test_a_mean_needs_every_picture() -> None:
    series = Series("s", ((cell(20.0), cell(22.0)), (None, cell(24.0))))
    assert series.means("psnr_db", 2) == [None, 23.0]
    assert [series.reached(step) for step in (0, 1)] == [1, 2]


def test_a_fall_is_counted_and_its_depth_told() -> None:
    series = Series("s", ((cell(20.0), cell(19.5), cell(22.0)), (cell(18.0), cell(18.0), cell(19.0))))
    found = monotonicity(series, 3)
    assert (found.pairs, found.pairs_not_falling) == (4, 3)
    assert found.deepest_fall_db == pytest.approx(0.5)
    assert not found.is_mean_strictly_rising


def test_coding_only_the_mean_colour_explains_nothing_and_a_copy_explains_all(picture: Picture) -> None:
    original = picture.pixels
    mean = np.broadcast_to(original.mean(axis=(0, 1)).round().astype(np.uint8), original.shape)
    pictures = [Picture("p", original, "d")]
    nothing = Series("mean", ((score(original, mean, 3, ""),),))
    everything = Series("copy", ((score(original, original, 3, ""),),))
    assert explained_variance(nothing, pictures, 0) == pytest.approx(0.0, abs=1e-3)
    assert explained_variance(everything, pictures, 0) == pytest.approx(1.0, abs=1e-6)


def test_kept_scores_are_used_again_until_the_codec_version_changes(
    tmp_path: Path, picture: Picture, padded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(version: str) -> list[Series]:
        codecs = [padded.codec(version)]
        monkeypatch.setattr(peer_cache, "all_peers", lambda largest_bytes: codecs)
        return measure_peers(codecs, [picture], (500,), tmp_path / "kept.json", jobs=1)

    first = measure("1")
    encoded_count = len(padded.calls)
    assert measure("1") == first
    assert len(padded.calls) == encoded_count
    assert kept_series(padded.codec("1"), [picture], (500,), tmp_path / "kept.json") == first[0]
    assert kept_series(padded.codec("2"), [picture], (500,), tmp_path / "kept.json") is None
    assert len(padded.calls) == encoded_count
    measure("2")
    assert len(padded.calls) == 2 * encoded_count
