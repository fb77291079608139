"""How good a picture came back at a number of bytes, and what a set of such scores says. No codecs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import Picture, Pixels
from tokenizer.quality import DATA_RANGE, MS_SSIM_MIN_SIDE_PX, WINDOW_TAPS, ms_ssim, psnr_db, ssim

BYTE_COUNTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)
# An exact copy has infinite PSNR, which no mean and no JSON can hold.
PSNR_CEILING_DB = 99.0


@dataclass(frozen=True, slots=True)
class Score:
    """One decoded picture against its original."""

    size_bytes: int
    psnr_db: float
    ssim: float | None
    """None where the picture is smaller than the measure's window."""
    ms_ssim: float | None
    setting: str
    """What the codec was told, for example `96 px, q 31`."""


# One codec on one picture: a score per byte count, None where the codec does not reach it.
Row = tuple[Score | None, ...]


def capped_psnr_db(original: Pixels, decoded: Pixels) -> float:
    """PSNR in dB, at most 99."""
    return min(psnr_db(original, decoded), PSNR_CEILING_DB)


def score(original: Pixels, decoded: Pixels, size_bytes: int, setting: str) -> Score:
    """All measures of one decoded picture."""
    short_side_px = min(original.shape[:2])
    return Score(
        size_bytes,
        round(capped_psnr_db(original, decoded), 4),
        round(ssim(original, decoded), 5) if short_side_px >= WINDOW_TAPS else None,
        round(ms_ssim(original, decoded), 5) if short_side_px >= MS_SSIM_MIN_SIDE_PX else None,
        setting,
    )


@dataclass(frozen=True, slots=True)
class Series:
    """One codec on a set of pictures: rows in the order of the pictures."""

    name: str
    rows: tuple[Row, ...]
    is_ours: bool = False

    def reached(self, step: int) -> int:
        """How many pictures have a score at this byte count."""
        return sum(row[step] is not None for row in self.rows)

    def mean(self, measure: str, step: int) -> float | None:
        """Mean over pictures; None unless every picture was coded and can be measured."""
        values = [None if row[step] is None else getattr(row[step], measure) for row in self.rows]
        known = [float(value) for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None

    def means(self, measure: str, steps: int) -> list[float | None]:
        """The mean at each byte count."""
        return [self.mean(measure, step) for step in range(steps)]


@dataclass(frozen=True, slots=True)
class Monotonicity:
    """Whether more bytes ever gave a worse picture."""

    pairs: int
    """(picture, step between neighbouring byte counts) that were compared."""
    pairs_not_falling: int
    deepest_fall_db: float
    is_mean_strictly_rising: bool

    @property
    def share_not_falling(self) -> float:
        """Share of pairs in which PSNR does not fall."""
        return self.pairs_not_falling / self.pairs if self.pairs else 1.0


def monotonicity(series: Series, steps: int) -> Monotonicity:
    """Compare every byte count with the next, per picture and in the mean."""
    curves = [[cell.psnr_db for cell in row if cell is not None] for row in series.rows]
    rises = [after - before for curve in curves for before, after in pairwise(curve)]
    means = [mean for mean in series.means("psnr_db", steps) if mean is not None]
    return Monotonicity(
        pairs=len(rises),
        pairs_not_falling=sum(rise >= 0 for rise in rises),
        deepest_fall_db=max(0.0, -min(rises, default=0.0)),
        is_mean_strictly_rising=all(a < b for a, b in pairwise(means)),
    )


@dataclass(frozen=True, slots=True)
class PixelVariance:
    """Mean squared distance of a pixel's colour value, pooled over all pixels of all pictures."""

    about_own_mean: float
    """From the mean colour of its picture: what is left when every picture's mean is known."""
    about_common_mean: float
    """From the mean colour of all pictures."""


def pixel_variance(pictures: Sequence[Picture]) -> PixelVariance:
    """Variance of a set of pictures in squared pixel values, mean over colours."""
    weights = _pixel_weights(pictures)
    means = np.array([picture.pixels.mean(axis=(0, 1)) for picture in pictures])
    squares = np.array(
        [np.square(picture.pixels.astype(np.float64)).mean(axis=(0, 1)) for picture in pictures]
    )
    return PixelVariance(
        about_own_mean=float(np.mean(weights @ (squares - means**2))),
        about_common_mean=float(np.mean(weights @ squares - (weights @ means) ** 2)),
    )


def pooled_mse(errors: Sequence[float], pictures: Sequence[Picture]) -> float:
    """Mean squared error over all pixels, from that of each picture."""
    return float(_pixel_weights(pictures) @ np.asarray(errors, np.float64))


def explained_variance(series: Series, pictures: Sequence[Picture], step: int) -> float | None:
    """1 - squared error / squared distance from the mean colour of all pictures; None if one is missing.

    Pooled over pixels, so that it is the share of pixel variance a linear analysis would report.
    """
    cells = [cell for row in series.rows if (cell := row[step]) is not None]
    variance = pixel_variance(pictures).about_common_mean
    if len(cells) < len(series.rows) or variance <= 0:
        return None
    errors = [DATA_RANGE**2 / 10 ** (cell.psnr_db / 10) for cell in cells]
    return 1 - pooled_mse(errors, pictures) / variance


def _pixel_weights(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    areas = np.array([picture.pixels[..., 0].size for picture in pictures], dtype=np.float64)
    weights: NDArray[np.float64] = areas / areas.sum()
    return weights
