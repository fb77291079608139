"""Folder of picture files -> pictures in memory, cropped as a protocol asks. Knows nothing of codecs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenizer.images import read_image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif"})
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Picture:
    """One original: what every codec is asked to restore."""

    name: str
    pixels: Pixels
    digest: str
    """Hash of the pixels and their shape, so that measurements can be kept and found again."""


def load_pictures(folder: Path, *, crop_px: int | None = None, limit: int | None = None) -> list[Picture]:
    """The pictures of a folder by name, `limit` at most. Raises SystemExit if there are none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:limit]
    if not paths:
        raise SystemExit(f"no pictures in {folder}")
    return [_load(path, crop_px) for path in paths]


def _load(path: Path, crop_px: int | None) -> Picture:
    pixels = read_image(path.read_bytes())
    if crop_px is not None:
        pixels = np.asarray(centre_crop(Image.fromarray(pixels), crop_px))
    return Picture(path.name, pixels, _digest(pixels))


def centre_crop(image: Image.Image, side_px: int) -> Image.Image:
    """The short side resized to `side_px` with Lanczos, then the square in the middle."""
    scale = side_px / min(image.size)
    width, height = (max(side_px, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - side_px) // 2, (height - side_px) // 2
    return resized.crop((left, top, left + side_px, top + side_px))


def _digest(pixels: Pixels) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]
