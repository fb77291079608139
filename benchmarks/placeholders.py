"""ThumbHash and BlurHash, the two placeholder formats, behind the codec interface of `peers`.

Needs the packages of the extra `bench`; `available()` leaves out what is not installed. The ThumbHash decoder
is ours, after the reference implementation in JavaScript (github.com/evanw/thumbhash), because the one in the
Python package does not reset its cosine tables between pixels.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.codec import Codec

# The format allows at most 100 pixels a side at encoding; decoders make 32.
THUMBHASH_INPUT_PX, THUMBHASH_OUTPUT_PX = 100, 32
# More input pixels change nothing that 9 components can show, and encoding time grows with them.
BLURHASH_PX = 64
BLURHASH_MAX_COMPONENTS = 9


def available() -> list[Codec]:
    """The placeholder codecs whose packages are installed."""
    return [
        make()
        for module, make in (("thumbhash", _thumbhash), ("blurhash", _blurhash))
        if importlib.util.find_spec(module)
    ]


def _thumbhash() -> Codec:
    return Codec(
        name="ThumbHash",
        version=f"thumbhash-py {importlib.metadata.version('thumbhash')}, own decoder",
        modes=("",),
        qualities=(0,),
        encode=_encode_thumbhash,
        decode=decode_thumbhash,
        fixed_side_px=THUMBHASH_INPUT_PX,
    )


def _encode_thumbhash(image: Image.Image, mode: str, quality: int) -> bytes:
    thumbhash = importlib.import_module("thumbhash")
    rgba = image.convert("RGBA")
    return bytes(thumbhash.rgba_to_thumb_hash(rgba.width, rgba.height, list(rgba.tobytes())))


def decode_thumbhash(data: bytes) -> Image.Image:
    """An opaque ThumbHash as a picture with a long side of 32 pixels."""
    header = int.from_bytes(data[:3], "little")
    shape = int.from_bytes(data[3:5], "little")
    is_landscape, short = bool(shape >> 15), shape & 7
    columns, rows = (7, short) if is_landscape else (short, 7)
    nibbles = (nibble / 7.5 - 1 for byte in data[5:] for nibble in (byte & 15, byte >> 4))
    size = _thumbhash_size(columns, rows)
    # The reference boosts the amplitudes of colour by 1.25 to make up for their coarse quantization.
    light = _cosine_plane(
        nibbles, (header & 63) / 63, (header >> 18 & 31) / 31, max(3, columns), max(3, rows), size
    )
    yellow = _cosine_plane(nibbles, (header >> 6 & 63) / 31.5 - 1, (shape >> 3 & 63) / 63 * 1.25, 3, 3, size)
    red = _cosine_plane(nibbles, (header >> 12 & 63) / 31.5 - 1, (shape >> 9 & 63) / 63 * 1.25, 3, 3, size)
    b = light - 2 / 3 * yellow
    r = (3 * light - b + red) / 2
    rgb = np.clip(np.stack([r, r - red, b], axis=-1), 0, 1) * 255
    return Image.fromarray(rgb.astype(np.uint8))


def _thumbhash_size(columns: int, rows: int) -> tuple[int, int]:
    ratio, long_px = columns / rows, THUMBHASH_OUTPUT_PX
    return (long_px, round(long_px / ratio)) if ratio > 1 else (round(long_px * ratio), long_px)


def _cosine_plane(
    nibbles: Iterator[float], mean: float, scale: float, columns: int, rows: int, size: tuple[int, int]
) -> NDArray[np.float64]:
    """One channel from the next nibbles: a triangle of cosine amplitudes around a mean."""
    width, height = size
    plane = np.full((height, width), mean)
    for v in range(rows):
        for u in range(columns):
            if (u, v) == (0, 0) or u * rows >= columns * (rows - v):
                continue
            horizontal = np.cos(np.pi / width * (np.arange(width) + 0.5) * u)
            vertical = np.cos(np.pi / height * (np.arange(height) + 0.5) * v)
            plane += 2 * scale * next(nibbles) * np.outer(vertical, horizontal)
    return plane


def _blurhash() -> Codec:
    counts = range(1, BLURHASH_MAX_COMPONENTS + 1)
    return Codec(
        name="BlurHash",
        version=f"blurhash-python {importlib.metadata.version('blurhash-python')}",
        modes=tuple(f"{x}x{y}" for x in counts for y in counts),
        qualities=(0,),
        encode=_encode_blurhash,
        decode=_decode_blurhash,
        fixed_side_px=BLURHASH_PX,
    )


def _encode_blurhash(image: Image.Image, mode: str, quality: int) -> bytes:
    blurhash = importlib.import_module("blurhash")
    x, y = map(int, mode.split("x"))
    with warnings.catch_warnings():
        # The package still calls Image.getdata, which new Pillow versions call old.
        warnings.simplefilter("ignore", DeprecationWarning)
        # It also closes what it is given.
        return str(blurhash.encode(image.copy(), x, y)).encode()


def _decode_blurhash(data: bytes) -> Image.Image:
    decoded = importlib.import_module("blurhash").decode(data.decode(), BLURHASH_PX, BLURHASH_PX)
    assert isinstance(decoded, Image.Image)
    return decoded
