"""Our ThumbHash decoder against the format: what the package encodes comes back."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.placeholders import available, decode_thumbhash

CODECS = {codec.name: codec for codec in available()}


@pytest.mark.skipif("ThumbHash" not in CODECS, reason="the package thumbhash is not installed")
@pytest.mark.parametrize("size", [(100, 100), (100, 60), (60, 100)])
def test_a_smooth_picture_survives_thumbhash(size: tuple[int, int]) -> None:
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    ramp = np.stack([40 + 150 * x, 60 + 100 * y, 120 + 40 * (x - y)], axis=-1).round().astype(np.uint8)
    data = CODECS["ThumbHash"].encode(Image.fromarray(ramp), "", 0)
    decoded = np.asarray(decode_thumbhash(data).resize(size, Image.Resampling.BICUBIC)).astype(float)
    assert len(data) <= 25
    # The format boosts colour differences by a quarter: this ramp's red overshoots by up to 35.
    assert np.sqrt(np.mean((decoded - ramp) ** 2)) < 16


@pytest.mark.skipif("ThumbHash" not in CODECS, reason="the package thumbhash is not installed")
def test_thumbhash_keeps_the_orientation() -> None:
    wide = CODECS["ThumbHash"].encode(Image.new("RGB", (100, 50), (200, 30, 30)), "", 0)
    decoded = decode_thumbhash(wide)
    assert decoded.width > decoded.height
    assert np.allclose(np.asarray(decoded).mean(axis=(0, 1)), (200, 30, 30), atol=6)
