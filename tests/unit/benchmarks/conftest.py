"""A small picture, and a codec whose best answer at any byte count is known."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from benchmarks.codec import Codec
from benchmarks.pictures import Picture


@pytest.fixture
def picture() -> Picture:
    """64x64, smooth."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC))
    return Picture("noise", pixels, "digest")


@dataclass
class PaddedCodec:
    """Stores pixels losslessly and pads the file: longer at higher quality."""

    calls: list[tuple[int, str, int]] = field(default_factory=list)
    """Every encoding that was asked for."""

    def encode(self, image: Image.Image, mode: str, quality: int) -> bytes:
        self.calls.append((image.width, mode, quality))
        return image.width.to_bytes(2, "big") + image.tobytes() + bytes(quality)

    def decode(self, data: bytes) -> Image.Image:
        side = int.from_bytes(data[:2], "big")
        return Image.frombytes("RGB", (side, side), data[2 : 2 + 3 * side * side])

    def codec(self, version: str = "1") -> Codec:
        return Codec("padded", version, ("only",), tuple(range(0, 1000, 10)), self.encode, self.decode)


@pytest.fixture
def padded() -> PaddedCodec:
    return PaddedCodec()
