"""JPEG XL behind the codec interface of `peers`: libjxl through imagecodecs, from the extra `bench`.

Files are naked codestreams, without the boxes of the container: the smallest thing a reader accepts.
"""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np
from PIL import Image

from benchmarks.codec import Codec

# libjxl takes distances of 0.01 to 25 butteraugli; here in hundredths, 4 % apart, from small files to large.
_FARTHEST, _NEAREST, _STEP = 2500, 50, 0.96


def available() -> list[Codec]:
    """JPEG XL, if imagecodecs is installed."""
    return [_jpeg_xl()] if importlib.util.find_spec("imagecodecs") else []


def _jpeg_xl() -> Codec:
    return Codec(
        name="JPEG XL",
        version=str(importlib.import_module("imagecodecs").jpegxl_version()),
        modes=("effort 7",),
        qualities=_distances_in_hundredths(),
        encode=_encode,
        decode=_decode,
    )


def _distances_in_hundredths() -> tuple[int, ...]:
    distances, distance = [], float(_FARTHEST)
    while distance >= _NEAREST:
        distances.append(round(distance))
        distance *= _STEP
    return tuple(distances)


def _encode(image: Image.Image, mode: str, quality: int) -> bytes:
    encode = importlib.import_module("imagecodecs").jpegxl_encode
    effort = int(mode.split()[1])
    data = encode(np.asarray(image), distance=quality / 100, effort=effort, usecontainer=False, numthreads=1)
    return bytes(data)


def _decode(data: bytes) -> Image.Image:
    decode = importlib.import_module("imagecodecs").jpegxl_decode
    return Image.fromarray(decode(data, numthreads=1))
