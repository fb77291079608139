"""Pictures for training: shards and folders -> uint8 in memory -> batches in a seeded, resumable order."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from tokenizer.canvas import Size
from tokenizer.errors import ImageError
from tokenizer.images import read_image
from training.config import DataConfig

PICTURE_ENDINGS = (".webp", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".avif")
SPLITS = ("train", "validation", "calibration")


@dataclass(frozen=True)
class PictureSet:
    """Pictures in memory: uint8 HWC of any size, with the keys that decide their split."""

    keys: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def __add__(self, other: PictureSet) -> PictureSet:
        return PictureSet(self.keys + other.keys, self.pictures + other.pictures)

    def batch(self, step: int, batch_size: int, canvas: Size, seed: int) -> np.ndarray:
        """Batch number `step`, uint8[B, H, W, 3]: a random crop and flip of each picture.

        A pure function of its arguments: order and crops of a resumed run are those of an unbroken one.
        """
        rng = np.random.default_rng((seed, step))
        picks = [self._pick(step * batch_size + i, seed) for i in range(batch_size)]
        return np.stack([random_crop(self.pictures[pick], canvas, rng) for pick in picks])

    def _pick(self, position: int, seed: int) -> int:
        epoch, within = divmod(position, len(self))
        return int(_permutation(seed, epoch, len(self))[within])

    def centre_batches(self, batch_size: int, canvas: Size) -> Iterator[np.ndarray]:
        """All pictures in order, centre-cropped to the canvas."""
        for start in range(0, len(self), batch_size):
            yield np.stack([centre_crop(p, canvas) for p in self.pictures[start : start + batch_size]])


_permutations: dict[tuple[int, int, int], np.ndarray] = {}


def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    key = (seed, epoch, count)
    if key not in _permutations:
        _permutations.clear()
        _permutations[key] = np.random.default_rng((seed, epoch, count)).permutation(count)
    return _permutations[key]


def load_pictures(config: DataConfig, split: str, min_side_px: int = 16) -> PictureSet:
    """All pictures of one split. Unreadable and too small ones are left out and counted on the screen."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    keys: list[str] = []
    pictures: list[np.ndarray] = []
    skipped = 0
    for source in config.sources:
        wanted = _wanted_keys(Path(source), config.kinds)
        for key, data in track(_members(Path(source)), description=f"{split}: {Path(source).name}"):
            if config.limit is not None and len(keys) >= config.limit:
                break
            if split_of(key, config.held_out_share) != split or (wanted is not None and key not in wanted):
                continue
            try:
                picture = read_image(data)
            except ImageError:
                skipped += 1
                continue
            if min(picture.shape[:2]) < min_side_px:
                skipped += 1
                continue
            keys.append(key)
            pictures.append(picture)
    if not keys:
        raise ValueError(f"no pictures for {split} in {config.sources} ({skipped} could not be used)")
    if skipped:
        print(f"{split}: left out {skipped} unreadable or too small pictures")
    return PictureSet(tuple(keys), tuple(pictures))


def split_of(key: str, held_out_share: float) -> str:
    """The split of a key, by hash: it stays the same however the pictures are sharded."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if place < held_out_share:
        return "validation"
    return "calibration" if place < 2 * held_out_share else "train"


def _wanted_keys(source: Path, kinds: tuple[str, ...]) -> set[str] | None:
    """Keys of the wanted kinds by the index beside a shard (one JSON line per picture); None = every key."""
    if not kinds:
        return None
    index = source.with_suffix(".index.jsonl.gz")
    if not index.is_file():
        raise ValueError(f"kinds {kinds} need an index, and {index.name} is not beside {source.name}")
    with gzip.open(index, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["key"] for row in rows if row["kind"] in kinds}


def _members(source: Path) -> list[tuple[str, bytes]]:
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in PICTURE_ENDINGS)
        return [(str(p.relative_to(source)), p.read_bytes()) for p in files]
    if not source.is_file():
        raise ValueError(f"{source} is neither a folder nor a tar shard")
    with tarfile.open(source) as shard:
        members = [m for m in shard if m.isfile() and Path(m.name).suffix.lower() in PICTURE_ENDINGS]
        return [(Path(m.name).stem, _read(shard, m)) for m in members]


def _read(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = shard.extractfile(member)
    assert stream is not None  # isfile() was checked
    with stream:
        return io.BytesIO(stream.read()).getvalue()


def centre_crop(picture: np.ndarray, canvas: Size) -> np.ndarray:
    """The middle of a picture at the canvas size; enlarged first if it is smaller."""
    fitted = _at_least(picture, canvas)
    top, left = (fitted.shape[0] - canvas.height_px) // 2, (fitted.shape[1] - canvas.width_px) // 2
    return fitted[top : top + canvas.height_px, left : left + canvas.width_px]


def random_crop(picture: np.ndarray, canvas: Size, rng: np.random.Generator) -> np.ndarray:
    """A random place of a picture at the canvas size, flipped half of the time."""
    fitted = _at_least(picture, canvas)
    top = int(rng.integers(fitted.shape[0] - canvas.height_px + 1))
    left = int(rng.integers(fitted.shape[1] - canvas.width_px + 1))
    crop = fitted[top : top + canvas.height_px, left : left + canvas.width_px]
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def _at_least(picture: np.ndarray, canvas: Size) -> np.ndarray:
    height, width = picture.shape[:2]
    if height >= canvas.height_px and width >= canvas.width_px:
        return picture
    from tokenizer.preprocess import resize

    scale = max(canvas.height_px / height, canvas.width_px / width)
    return resize(
        picture,
        Size(max(canvas.width_px, round(width * scale)), max(canvas.height_px, round(height * scale))),
    )
