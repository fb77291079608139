"""The full-resolution bench: bits per pixel become whole bytes, and its page names both."""

import numpy as np
import pytest

from benchmarks.full_resolution import byte_counts_of
from benchmarks.full_resolution_report import BITS_PER_PIXEL, page
from benchmarks.peers import j2k_sizes_bytes
from benchmarks.pictures import Picture
from benchmarks.rate_distortion_report import Measured
from benchmarks.scores import Score, Series

MODEL = {"name": "tiny", "version": "0", "fingerprint": "00000000", "digest": "0" * 64}


def of_size(width_px: int, height_px: int) -> Picture:
    return Picture("p", np.zeros((height_px, width_px, 3), np.uint8), "d")


def test_byte_counts_never_exceed_their_bits_per_pixel() -> None:
    assert byte_counts_of([of_size(768, 512), of_size(512, 768)]) == (
        983,
        1474,
        2457,
        3932,
        6144,
        8847,
        12288,
    )


def test_pictures_of_different_areas_are_refused() -> None:
    with pytest.raises(SystemExit, match="one area"):
        byte_counts_of([of_size(768, 512), of_size(256, 256)])


def test_the_page_names_bytes_and_bits_per_pixel() -> None:
    picture = of_size(768, 512)
    counts = byte_counts_of([picture])
    row = tuple(Score(count, 20.0 + step, 0.5, 0.5, "") for step, count in enumerate(counts))
    series = [Series("Tessera", (row,), is_ours=True), Series("WebP", (row,))]
    text = page(Measured("set", counts, [picture], series, MODEL, ["AVIF"]))
    assert "| 983 (0.02 bpp) | 20.00 | 20.00 | 20.00 |" in text
    assert f"| {counts[-1]} ({BITS_PER_PIXEL[-1]:g} bpp) | 26.00 |" in text


def test_jpeg_2000_is_told_sizes_beyond_the_largest_file() -> None:
    for largest_bytes in (2048, 12288):
        sizes = j2k_sizes_bytes(largest_bytes)
        assert largest_bytes < sizes[-1] < 2 * largest_bytes
        assert list(sizes) == sorted(set(sizes))
