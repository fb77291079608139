"""The pictures that a load is made of: generated, or from a folder. Sends nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.load.plan import InvalidLoad
from tokenizer.canvas import MAX_SOURCE_SIDE_PX, Size
from tokenizer.images import ImageLimits, read_image, write_image

DEFAULT_SIZES = (Size(256, 256), Size(640, 480), Size(1024, 768))
TENSOR = "tensor"
FORMATS = ("jpeg", "png", "webp", TENSOR)
JPEG_QUALITY = 90
# A run needs variety, not a collection: beyond this a folder only costs memory.
MAX_FILES = 1000
# Drawing one takes 24 bytes per pixel.
MAX_AREA_PX = 2**24
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class LoadPicture:
    """A picture as it is sent: a file, or raw pixels."""

    size: Size
    file: bytes | None
    pixels: NDArray[np.uint8] | None = None


def generated(
    sizes: Sequence[Size] = DEFAULT_SIZES, formats: Sequence[str] = ("jpeg",), seed: int = 0
) -> list[LoadPicture]:
    """One picture of each size in each format; equal for equal arguments."""
    if not sizes or not formats:
        raise InvalidLoad("a load needs a size and a format of its pictures")
    return [_sent_as(photo_like(size, seed + i), form) for i, size in enumerate(sizes) for form in formats]


def from_folder(folder: Path) -> list[LoadPicture]:
    """The JPEG, PNG and WebP files right in a folder, by name. Raises InvalidLoad, ImageError."""
    if not folder.is_dir():
        raise InvalidLoad(f"{folder} is no folder")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _ENDINGS)
    if not files:
        raise InvalidLoad(f"{folder} holds no {', '.join(_ENDINGS)}")
    return [_from_file(path.read_bytes()) for path in files[:MAX_FILES]]


def parse_sizes(text: str) -> list[Size]:
    """`256x256,640x480` as sizes. Raises InvalidLoad."""
    return [_parse_size(part.strip()) for part in text.split(",")]


def _parse_size(text: str) -> Size:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise InvalidLoad(f"a size must look like 640x480, got {text!r}")
    width_px, height_px = map(int, match.groups())
    if max(width_px, height_px) > MAX_SOURCE_SIDE_PX or width_px * height_px > MAX_AREA_PX:
        raise InvalidLoad(f"a generated picture has at most {MAX_AREA_PX} pixels, got {text}")
    return Size(width_px, height_px)


def parse_formats(text: str) -> list[str]:
    """`jpeg,tensor` as names. Raises InvalidLoad."""
    names = [{"jpg": "jpeg"}.get(part, part) for part in (part.strip().lower() for part in text.split(","))]
    for name in names:
        if name not in FORMATS:
            raise InvalidLoad(f"a format must be one of {', '.join(FORMATS)}, got {name!r}")
    return names


def photo_like(size: Size, seed: int) -> NDArray[np.uint8]:
    """uint8 HWC: soft fields of several scales, some grain and a few hard edges, so that a JPEG of it is
    about as long as one of a photograph."""
    random = np.random.default_rng((seed, size.width_px, size.height_px))
    pixels = random.uniform(60, 190, 3) + np.zeros((size.height_px, size.width_px, 3))
    for cells, amplitude in ((3, 50.0), (8, 25.0), (24, 12.0), (80, 6.0)):
        pixels += amplitude * _field(random, cells, size)[..., None] * random.uniform(0.7, 1.0, 3)
    y, x = np.mgrid[0 : size.height_px, 0 : size.width_px]
    for _ in range(3):
        centre_y, centre_x = random.uniform(0, (size.height_px, size.width_px))
        radius = random.uniform(0.08, 0.25) * min(size.height_px, size.width_px)
        inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
        pixels[inside] = 0.4 * pixels[inside] + 0.6 * random.uniform(0, 255, 3)
    pixels += random.normal(0, 3, pixels.shape)
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _field(random: np.random.Generator, cells: int, size: Size) -> NDArray[np.float64]:
    """Noise on a coarse grid, interpolated to the picture; about -1..1."""
    grid = random.uniform(-1, 1, (cells + 1, cells + 1))
    rows, row_part = np.divmod(np.linspace(0, cells, size.height_px, endpoint=False), 1)
    columns, column_part = np.divmod(np.linspace(0, cells, size.width_px, endpoint=False), 1)
    r, c = rows.astype(int), columns.astype(int)
    upper = grid[r][:, c] * (1 - column_part) + grid[r][:, c + 1] * column_part
    lower = grid[r + 1][:, c] * (1 - column_part) + grid[r + 1][:, c + 1] * column_part
    field: NDArray[np.float64] = upper * (1 - row_part[:, None]) + lower * row_part[:, None]
    return field


def _sent_as(pixels: NDArray[np.uint8], form: str) -> LoadPicture:
    size = Size(pixels.shape[1], pixels.shape[0])
    if form == TENSOR:
        return LoadPicture(size, None, pixels)
    return LoadPicture(size, write_image(pixels, form, JPEG_QUALITY if form == "jpeg" else None))


def _from_file(data: bytes) -> LoadPicture:
    # Read once, so that a broken file is named before the run and not counted against the server.
    height_px, width_px = read_image(data, limits=ImageLimits()).shape[:2]
    return LoadPicture(Size(width_px, height_px), data)
