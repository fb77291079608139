"""The best picture that a codec can give at each byte count: downsampled size x mode x quality, by PSNR.

Every candidate is encoded and decoded once and counts for every byte count that it fits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from benchmarks.codec import Codec
from benchmarks.pictures import Picture, Pixels
from benchmarks.scores import Row, Score, capped_psnr_db, score

# Part of the key of kept results: raise it when a change here can change a result.
SEARCH_VERSION = 1
# Long sides for a picture of 256 pixels; others in proportion.
SIDES_OF_256 = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 144, 160, 192, 224, 256)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to make a file."""

    side_px: int
    mode: str
    step: int
    """Place in the codec's list of qualities."""


@dataclass(frozen=True, slots=True)
class Coded:
    """What a candidate gave."""

    candidate: Candidate
    size_bytes: int
    psnr_db: float


@dataclass(slots=True)
class Workbench:
    """One picture and one codec: files and decoded pictures, each made once."""

    picture: Picture
    codec: Codec
    sides_of_256: Sequence[int] = SIDES_OF_256
    _original: Image.Image = field(init=False)
    _small: dict[int, Image.Image] = field(init=False, default_factory=dict)
    _files: dict[Candidate, bytes] = field(init=False, default_factory=dict)
    _coded: dict[Candidate, Coded] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._original = Image.fromarray(self.picture.pixels)

    @property
    def coded(self) -> list[Coded]:
        """Every candidate that was decoded so far."""
        return list(self._coded.values())

    def sides_px(self) -> list[int]:
        """The long sides to try."""
        long_px = max(self._original.size)
        if self.codec.fixed_side_px is not None:
            return [min(self.codec.fixed_side_px, long_px)]
        return sorted({max(1, round(long_px * side / 256)) for side in self.sides_of_256})

    def size_bytes(self, candidate: Candidate) -> int:
        """Size of the candidate's file."""
        return len(self._file(candidate))

    def measure(self, candidate: Candidate) -> Coded:
        """Decode, enlarge and compare."""
        if candidate not in self._coded:
            psnr_db = capped_psnr_db(self.picture.pixels, self.decode(candidate))
            self._coded[candidate] = Coded(candidate, self.size_bytes(candidate), psnr_db)
        return self._coded[candidate]

    def decode(self, candidate: Candidate) -> Pixels:
        """The candidate's picture at the original's size."""
        image = self.codec.decode(self._file(candidate))
        return np.asarray(image.resize(self._original.size, Image.Resampling.LANCZOS))

    def _file(self, candidate: Candidate) -> bytes:
        if candidate not in self._files:
            quality = self.codec.qualities[candidate.step]
            small = self._downsampled(candidate.side_px)
            self._files[candidate] = self.codec.encode(small, candidate.mode, quality)
        return self._files[candidate]

    def _downsampled(self, side_px: int) -> Image.Image:
        if side_px not in self._small:
            scale = side_px / max(self._original.size)
            size = tuple(max(1, round(side * scale)) for side in self._original.size)
            self._small[side_px] = self._original.resize((size[0], size[1]), Image.Resampling.LANCZOS)
        return self._small[side_px]


def best_row(
    picture: Picture, codec: Codec, byte_counts: Sequence[int], sides_of_256: Sequence[int] = SIDES_OF_256
) -> Row:
    """The best score at each byte count, None where no candidate fits."""
    bench = Workbench(picture, codec, sides_of_256)
    for side_px in bench.sides_px():
        for mode in codec.modes:
            for limit_bytes in byte_counts:
                _measure_largest_fit(bench, side_px, mode, limit_bytes)
    for limit_bytes in byte_counts:
        _refine(bench, limit_bytes)
    return tuple(_score_best(bench, limit_bytes) for limit_bytes in byte_counts)


def _measure_largest_fit(bench: Workbench, side_px: int, mode: str, limit_bytes: int) -> None:
    """Measure the highest quality whose file fits, found by bisection."""
    low, high = 0, len(bench.codec.qualities)
    if bench.size_bytes(Candidate(side_px, mode, 0)) > limit_bytes:
        return
    while high - low > 1:
        middle = (low + high) // 2
        if bench.size_bytes(Candidate(side_px, mode, middle)) <= limit_bytes:
            low = middle
        else:
            high = middle
    bench.measure(Candidate(side_px, mode, low))


def _refine(bench: Workbench, limit_bytes: int) -> None:
    """Around the winner: neighbouring qualities, and the slow modes at the two sizes that did best."""
    best = _best(bench, limit_bytes)
    if best is None:
        return
    for side_px in _best_sides_px(bench, limit_bytes):
        for mode in bench.codec.refine_modes:
            _measure_largest_fit(bench, side_px, mode, limit_bytes)
    _measure_neighbours(bench, best.candidate, limit_bytes)


def _best_sides_px(bench: Workbench, limit_bytes: int, count: int = 2) -> list[int]:
    """Ranked by the fast modes only: the slow ones were not tried at every size."""
    fitting = [
        coded
        for coded in bench.coded
        if coded.size_bytes <= limit_bytes and coded.candidate.mode in bench.codec.modes
    ]
    ranked = sorted(fitting, key=lambda coded: -coded.psnr_db)
    return list(dict.fromkeys(coded.candidate.side_px for coded in ranked))[:count]


def _measure_neighbours(bench: Workbench, around: Candidate, limit_bytes: int) -> None:
    """Sizes do not quite grow with quality: a neighbour may fit better than what bisection found."""
    for step in range(around.step - 3, around.step + 4):
        candidate = Candidate(around.side_px, around.mode, step)
        if 0 <= step < len(bench.codec.qualities) and bench.size_bytes(candidate) <= limit_bytes:
            bench.measure(candidate)


def _best(bench: Workbench, limit_bytes: int) -> Coded | None:
    fitting = [coded for coded in bench.coded if coded.size_bytes <= limit_bytes]
    return max(fitting, key=lambda coded: coded.psnr_db, default=None)


def _score_best(bench: Workbench, limit_bytes: int) -> Score | None:
    best = _best(bench, limit_bytes)
    if best is None:
        return None
    setting = _setting(best.candidate, bench.codec)
    return score(bench.picture.pixels, bench.decode(best.candidate), best.size_bytes, setting)


def decode_setting(picture: Picture, codec: Codec, setting: str) -> Pixels:
    """The decoded picture behind the `setting` of a score that was kept: one encoding, no search."""
    bench = Workbench(picture, codec)
    return bench.decode(_candidate(setting, codec))


def _setting(candidate: Candidate, codec: Codec) -> str:
    return f"{candidate.side_px} px, {candidate.mode}, q {codec.qualities[candidate.step]}"


def _candidate(setting: str, codec: Codec) -> Candidate:
    """Inverse of `_setting`."""
    side_px, mode, quality = re.fullmatch(r"(\d+) px, (.*), q (\d+)", setting).groups()  # type: ignore[union-attr]
    return Candidate(int(side_px), mode, codec.qualities.index(int(quality)))
