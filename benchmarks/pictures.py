"""Folder or tar shard of picture files -> pictures in memory, cropped as a protocol asks. Knows no codecs."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
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


def load_pictures(images: Path, *, crop_px: int | None = None, limit: int | None = None) -> list[Picture]:
    """The pictures of a folder by name or of a tar shard in its order, `limit` at most.

    Raises SystemExit if there are none.
    """
    files = _folder_files(images) if images.is_dir() else _shard_files(images)
    pictures = [_load(name, data, crop_px) for name, data in islice(files, limit)]
    if not pictures:
        raise SystemExit(f"no pictures in {images}")
    return pictures


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            yield path.name, path.read_bytes()


def _shard_files(shard: Path) -> Iterator[tuple[str, bytes]]:
    if not shard.is_file():
        raise SystemExit(f"{shard} is neither a folder nor a tar shard")
    with tarfile.open(shard) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None and Path(member.name).suffix.lower() in SUFFIXES:
                yield Path(member.name).name, content.read()


def _load(name: str, data: bytes, crop_px: int | None) -> Picture:
    pixels = read_image(data)
    if crop_px is not None:
        pixels = np.asarray(centre_crop(Image.fromarray(pixels), crop_px))
    return Picture(name, pixels, _digest(pixels))


def centre_crop(image: Image.Image, side_px: int) -> Image.Image:
    """The short side resized to `side_px` with Lanczos, then the square in the middle."""
    scale = side_px / min(image.size)
    width, height = (max(side_px, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - side_px) // 2, (height - side_px) // 2
    return resized.crop((left, top, left + side_px, top + side_px))


def _digest(pixels: Pixels) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]
