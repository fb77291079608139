"""The best WebP file of at most N bytes: every scale and quality that could win, whole files counted."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenizer.quality import psnr_db

# Sides shrink by about a sixth from step to step, down to pictures of a few pixels.
_SCALES = tuple(2 ** (-step / 4) for step in range(29))


@dataclass(frozen=True, slots=True)
class WebpPicture:
    """A WebP file, as the viewer sees it at the size of the source."""

    size_bytes: int
    psnr_db: float
    pixels: NDArray[np.uint8]


def best_webp(source: NDArray[np.uint8], max_bytes: int) -> WebpPicture | None:
    """The WebP of highest PSNR within `max_bytes`; None if not even the smallest picture fits."""
    best: WebpPicture | None = None
    for scale in reversed(_SCALES):  # from small to large: sizes only grow, so the first misfit ends it
        small = _shrink(source, scale)
        data = _best_quality(small, max_bytes)
        if data is None:
            break
        pixels = _enlarge(data, source)
        candidate = WebpPicture(len(data), psnr_db(source, pixels), pixels)
        if best is None or candidate.psnr_db > best.psnr_db:
            best = candidate
    return best


def _best_quality(picture: Image.Image, max_bytes: int) -> bytes | None:
    """The file of highest quality within `max_bytes`, by bisection."""
    found, low, high = None, 0, 100
    while low <= high:
        middle = (low + high) // 2
        data = _webp(picture, middle)
        if len(data) <= max_bytes:
            found, low = data, middle + 1
        else:
            high = middle - 1
    return found


def _webp(picture: Image.Image, quality: int) -> bytes:
    out = BytesIO()
    picture.save(out, format="WEBP", quality=quality, method=4)
    return out.getvalue()


def _shrink(source: NDArray[np.uint8], scale: float) -> Image.Image:
    height, width = source.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(source).resize(size, Image.Resampling.LANCZOS)


def _enlarge(data: bytes, source: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data)) as picture:
        size = (source.shape[1], source.shape[0])
        return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))
