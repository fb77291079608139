"""Pictures for training: sources -> uint8 in memory, split by key. Knows no batches' order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from rich.progress import track

from tokenizer.canvas import Size
from tokenizer.errors import ImageError
from tokenizer.images import image_size, read_image
from tokenizer.preprocess import resize
from training.config import DataConfig
from training.memory import check_host
from training.sources import DataRefused, Entry, entries

SPLITS = ("train", "validation", "calibration")
T = TypeVar("T")


class NoPictures(DataRefused):
    """The sources hold no usable picture of a split."""


class _TooSmall(ImageError):
    """Below the smallest canvas."""


@dataclass(frozen=True)
class PictureSet:
    """Pictures in memory: uint8 HWC of any size, with the keys that decide their split."""

    keys: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]
    origins: Mapping[str, str] = field(default_factory=dict)
    """By key, where a picture was taken from, if that is known."""

    def __len__(self) -> int:
        return len(self.keys)

    def first(self, count: int) -> PictureSet:
        """The first pictures."""
        return PictureSet(self.keys[:count], self.pictures[:count], self.origins)

    def __add__(self, other: PictureSet) -> PictureSet:
        origins = {**self.origins, **other.origins}
        return PictureSet(self.keys + other.keys, self.pictures + other.pictures, origins)

    @property
    def sources(self) -> tuple[str, ...]:
        """Of each picture: pictures of one source are alike. Unknown: the picture's own key."""
        return tuple(self.origins.get(key, key) for key in self.keys)

    @property
    def sizes(self) -> np.ndarray:
        """Height and width of every picture, i64[N, 2]."""
        return np.asarray([picture.shape[:2] for picture in self.pictures], np.int64).reshape(-1, 2)

    def centre_batches(self, batch_size: int, canvas: Size) -> Iterator[np.ndarray]:
        """All pictures in order, centre-cropped to the canvas, uint8[B, H, W, 3]."""
        for start in range(0, len(self), batch_size):
            yield np.stack([centre_crop(p, canvas) for p in self.pictures[start : start + batch_size]])


def load_pictures(
    config: DataConfig, split: str, min_side_px: int = 16, processes: int = 1, quiet: bool = False
) -> PictureSet:
    """All pictures of one split. Unreadable and too small ones are left out and counted on the screen.

    Raises DataRefused, before a pixel is decoded, where `processes` copies would not fit into memory;
    0 does not ask.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")

    def stored_size(data: bytes) -> Size:
        size = image_size(data)
        if min(size.width_px, size.height_px) < min_side_px:
            raise _TooSmall(f"a side has {min_side_px} pixels or more, got {size}")
        return _shrunk(size, config.short_side_px)

    def stored_picture(data: bytes) -> np.ndarray:
        size = stored_size(data)
        return resize(read_image(data), size)

    sizes = [size for _, size in _usable(config, split, stored_size, Counter())]
    check_host(3 * sum(size.area_px for size in sizes), processes, config.max_memory_gib)
    left_out: Counter[str] = Counter()
    loaded = _usable(config, split, stored_picture, left_out)
    rows = list(track(loaded, f"{split}: {len(sizes)} pictures", total=len(sizes), disable=quiet))
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
    if not rows:
        raise NoPictures(f"no pictures for {split} in {config.sources}; left out: {reasons or 'none'}")
    if left_out and not quiet:
        print(f"{split}: left out {left_out.total()} unreadable or too small pictures: {reasons}")
    found, pictures = zip(*rows, strict=True)
    origins = {entry.key: entry.origin for entry in found if entry.origin is not None}
    return PictureSet(tuple(entry.key for entry in found), pictures, origins)


def _usable(
    config: DataConfig, split: str, read: Callable[[bytes], T], left_out: Counter[str]
) -> Iterator[tuple[Entry, T]]:
    """The split's entries and what `read` makes of them, up to the limit; counts why others are left out."""
    count = 0
    for entry in entries(config.sources, config.image_column, config.kinds):
        if count == config.limit:
            return
        if split_of(entry.key, config.held_out_share) != split:
            continue
        try:
            value = read(entry.read())
        except ImageError as error:
            left_out[type(error).__name__.lstrip("_")] += 1
            continue
        count += 1
        yield entry, value


def _shrunk(size: Size, short_side_px: int | None) -> Size:
    """The size with this short side, if it was longer."""
    shorter = min(size.width_px, size.height_px)
    if short_side_px is None or shorter <= short_side_px:
        return size
    share = short_side_px / shorter
    return Size(round(size.width_px * share), round(size.height_px * share))


def split_of(key: str, held_out_share: float) -> str:
    """The split of a key, by hash: it stays the same however the pictures are sharded."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if place < held_out_share:
        return "validation"
    return "calibration" if place < 2 * held_out_share else "train"


def largest_window(size: Size, canvas: Size) -> Size:
    """The largest part of a picture that has the canvas's aspect, to the nearest pixel."""
    share = min(size.width_px / canvas.width_px, size.height_px / canvas.height_px)
    return Size(
        min(size.width_px, max(1, round(canvas.width_px * share))),
        min(size.height_px, max(1, round(canvas.height_px * share))),
    )


def centre_crop(picture: np.ndarray, canvas: Size) -> np.ndarray:
    """The largest middle part of a picture that has the canvas's aspect, at the canvas's size."""
    height, width = picture.shape[:2]
    part = largest_window(Size(width, height), canvas)
    top, left = (height - part.height_px) // 2, (width - part.width_px) // 2
    return resize(picture[top : top + part.height_px, left : left + part.width_px], canvas)
