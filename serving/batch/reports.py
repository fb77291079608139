"""What became of units and of the whole job: counts, histograms, both ends. Small however many pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.batch.rows import Row
from tokenizer.bitstream import header_size_bytes

REPORTS = "reports"
# Steps of the histograms: tokens by powers of two, decibels by halves.
_DB_STEP = 0.5
# A flat picture is predicted at hundreds of decibels.
_MAX_DB = 60.0
_EXTREMES = 8


@dataclass(slots=True)
class UnitReport:
    """What became of a unit; small, and enough to sum up the job."""

    index: int
    pictures: int = 0
    tokens: int = 0
    size_bytes: int = 0
    """Of the streams as the sink keeps them."""
    errors: list[dict[str, str]] = field(default_factory=list)
    lengths: dict[str, int] = field(default_factory=dict)
    """Lower end of a power-of-two bin -> pictures."""
    psnr_db: dict[str, int] = field(default_factory=dict)
    """Lower end of a half-decibel bin -> pictures."""
    extremes: list[tuple[float, str, str]] = field(default_factory=list)
    """(predicted dB, source, key) of the hardest and the easiest pictures."""
    least_bytes: int = 0
    """First pass of a budget for the set: what the pictures take at least."""
    demand: dict[str, int] = field(default_factory=dict)
    """First pass of a budget for the set: what they would buy, tokens by bin of worth."""

    def add(self, row: Row, *, bare: bool) -> None:
        """Count one row; `bare` streams have no header."""
        if row.failure is not None:
            self.errors.append({"source": row.source, "key": row.key, **asdict(row.failure)})
            return
        one = row.sequence
        assert one is not None  # a row without a failure has a sequence
        self.pictures += 1
        self.tokens += one.length
        self.size_bytes += one.length + (0 if bare else header_size_bytes(one.source, one.canvas))
        _count(self.lengths, 1 << max(0, one.length.bit_length() - 1))
        if (expected_db := one.predicted_psnr_db) is not None:
            _count(self.psnr_db, _DB_STEP * int(min(expected_db, _MAX_DB) / _DB_STEP))
            self.extremes.append((round(expected_db, 2), row.source, row.key))

    def as_json(self) -> dict[str, Any]:
        """For the file and the way between processes."""
        return asdict(self)

    def close(self) -> None:
        """All rows are counted: keep only both ends of the pictures."""
        self.extremes = both_ends(self.extremes)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> UnitReport:
        """The way back."""
        return cls(**content)


@dataclass(slots=True)
class Totals:
    """Sums over units; grows with the number of bins, not with that of pictures."""

    units: int = 0
    pictures: int = 0
    errors: int = 0
    tokens: int = 0
    size_bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    lengths: Counter[str] = field(default_factory=Counter)
    psnr_db: Counter[str] = field(default_factory=Counter)
    extremes: list[tuple[float, str, str]] = field(default_factory=list)

    def add(self, report: UnitReport) -> None:
        """Count a unit."""
        self.units += 1
        self.pictures += report.pictures
        self.errors += len(report.errors)
        self.tokens += report.tokens
        self.size_bytes += report.size_bytes
        self.reasons.update(error["reason"] for error in report.errors)
        self.lengths.update(report.lengths)
        self.psnr_db.update(report.psnr_db)
        self.extremes = both_ends([*self.extremes, *(tuple(one) for one in report.extremes)])

    @property
    def samples(self) -> int:
        """Good and bad ones."""
        return self.pictures + self.errors

    def as_json(self) -> dict[str, Any]:
        """For report.json."""
        each = max(1, self.pictures)
        return {
            "pictures": self.pictures,
            "errors": self.errors,
            "error_reasons": dict(self.reasons.most_common()),
            "tokens": self.tokens,
            "size_bytes": self.size_bytes,
            "tokens_per_picture": round(self.tokens / each, 2),
            "bytes_per_picture": round(self.size_bytes / each, 2),
            "lengths": _by_size(self.lengths),
            "predicted_psnr_db": _by_size(self.psnr_db),
            "hardest": self.extremes[: len(self.extremes) // 2],
            "easiest": self.extremes[len(self.extremes) // 2 :][::-1],
        }


def report_path(folder: Path, index: int) -> Path:
    """Where the report of a unit lies, once it is done."""
    return folder / REPORTS / f"{index:06d}.json"


def read_report(folder: Path, index: int) -> UnitReport:
    """The report of a unit that is done."""
    return UnitReport.from_json(json.loads(report_path(folder, index).read_text()))


def both_ends(extremes: list[Any], count: int = _EXTREMES) -> list[Any]:
    """The lowest and the highest, in order."""
    ordered = sorted(extremes)
    return ordered if len(ordered) <= 2 * count else ordered[:count] + ordered[-count:]


def _count(bins: dict[str, int], value: float) -> None:
    name = f"{value:g}"
    bins[name] = bins.get(name, 0) + 1


def _by_size(bins: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(bins.items(), key=lambda item: float(item[0])))
