"""Rate-distortion of an artifact at the standard byte counts, through the runtime that users run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.progress import track

from tokenizer import ImageTokenizer, Size
from tokenizer.quality import psnr_db
from training.config import DataConfig
from training.data import SPLITS, NoPictures, PictureSet, centre_crop, load_pictures

BYTE_COUNTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)


@dataclass(frozen=True)
class RateDistortion:
    """PSNR of every picture at every byte count, f64[N, 14]."""

    byte_counts: tuple[int, ...]
    psnr_db: np.ndarray

    @property
    def never_falling_share(self) -> float:
        """Share of (picture, step) pairs in which more bytes did not cost PSNR."""
        return float(np.mean(np.diff(self.psnr_db, axis=1) >= 0))


def evaluate_artifact(model: str, sources: tuple[str, ...], limit: int | None) -> RateDistortion:
    """Encode every picture of the sources (centre-cropped to 256 x 256) once and decode each prefix."""
    tokenizer = ImageTokenizer.from_pretrained(model)
    pictures = _all_pictures(DataConfig(sources=sources, limit=limit))
    rows = []
    for picture in track(pictures, f"{tokenizer.name}: {len(pictures)} pictures"):
        (whole,) = tokenizer.encode([picture])
        decoded = tokenizer.decode([whole.prefix(count) for count in BYTE_COUNTS])
        rows.append([psnr_db(picture, image) for image in decoded])
    return RateDistortion(BYTE_COUNTS, np.asarray(rows))


def markdown(result: RateDistortion) -> str:
    """A table of means, and how often more bytes were worse."""
    means = result.psnr_db.mean(0)
    lines = ["| bytes | mean PSNR dB |", "|---|---|"]
    lines += [f"| {count} | {mean:.2f} |" for count, mean in zip(result.byte_counts, means, strict=True)]
    share = 100 * result.never_falling_share
    return "\n".join([*lines, "", f"{len(result.psnr_db)} pictures; never falling in {share:.2f} % of steps"])


def _all_pictures(config: DataConfig) -> list[np.ndarray]:
    sets: list[PictureSet] = []
    for split in SPLITS:
        try:
            sets.append(load_pictures(config, split))
        except NoPictures:
            continue  # a small folder may have no picture in a held-out split
    pictures = [centre_crop(p, Size(256, 256)) for part in sets for p in part.pictures]
    return pictures[: config.limit]
