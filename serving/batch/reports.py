"""What became of units and of the whole job: counts, histograms, both ends. Small however many pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.batch.atomic import write_json
from serving.batch.bins import count, length_bin_tokens, length_rows, psnr_bin_db, psnr_rows
from serving.batch.rows import Failure, Row
from serving.batch.units import Unit
from tokenizer.bitstream import header_size_bytes

REPORTS, ERRORS, REPORT = "reports", "errors.jsonl", "report.json"
_EXTREMES = 8


@dataclass(frozen=True, slots=True, order=True)
class Extreme:
    """One of the hardest or easiest pictures, and where it lies."""

    predicted_psnr_db: float
    source: str
    key: str
    size_bytes: int
    unit: int
    number: int
    """Of the sample in its unit."""


@dataclass(slots=True)
class UnitReport:
    """What became of a unit; small, and enough to sum up the job."""

    index: int
    pictures: int = 0
    tokens: int = 0
    size_bytes: int = 0
    """Of the streams as the sink keeps them, or of the pictures that were rebuilt."""
    skipped: int = 0
    """Rows that were errors when they were encoded: there is nothing to rebuild."""
    errors: list[dict[str, str]] = field(default_factory=list)
    short: int = 0
    """Good pictures whose whole stream does not reach the quality that was asked."""
    lengths: dict[str, int] = field(default_factory=dict)
    """Lower end of a bin -> pictures."""
    psnr_db: dict[str, int] = field(default_factory=dict)
    """The same of predicted quality."""
    extremes: list[Extreme] = field(default_factory=list)
    """The hardest and the easiest pictures, in this order."""
    unit: dict[str, Any] = field(default_factory=dict)
    """The unit without its lists: enough to read one sample of it again."""
    least_bytes: int = 0
    """First pass of a budget for the set: what the pictures take at least."""
    demand: dict[str, int] = field(default_factory=dict)
    """First pass of a budget for the set: what they would buy, tokens by bin of worth."""

    @classmethod
    def of(cls, unit: Unit) -> UnitReport:
        """Nothing done yet."""
        return cls(unit.index, unit=unit.as_json() | {"members": (), "poison": (), "repeats": ()})

    @property
    def samples(self) -> int:
        """Good, bad and skipped ones."""
        return self.pictures + len(self.errors) + self.skipped

    def add(self, row: Row, *, bare: bool) -> None:
        """Count one encoded row; `bare` streams have no header."""
        if row.failure is not None:
            self.add_failure(row.source, row.key, row.failure)
            return
        one = row.sequence
        assert one is not None  # a row without a failure has a sequence
        size_bytes = one.length + (0 if bare else header_size_bytes(one.source, one.canvas))
        if (expected_db := one.predicted_psnr_db) is not None:
            count(self.psnr_db, psnr_bin_db(expected_db))
            place = (row.source, row.key, size_bytes, self.index, self.samples)
            self.extremes.append(Extreme(round(expected_db, 2), *place))
        self.short += row.is_short
        self.add_picture(one.length, size_bytes)

    def add_picture(self, length: int, size_bytes: int) -> None:
        """Count one good picture."""
        self.pictures += 1
        self.tokens += length
        self.size_bytes += size_bytes
        count(self.lengths, length_bin_tokens(length))

    def add_failure(self, source: str, key: str, failure: Failure) -> None:
        """Count a bad one."""
        self.errors.append({"source": source, "key": key, **asdict(failure)})

    def write(self, folder: Path) -> UnitReport:
        """All rows are counted: keep both ends of the pictures only, and say that the unit is done."""
        self.extremes = both_ends(self.extremes)
        write_json(report_path(folder, self.index), self.as_json())
        return self

    def as_json(self) -> dict[str, Any]:
        """For the file and the way between processes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> UnitReport:
        """The way back."""
        return cls(**{**content, "extremes": [Extreme(**one) for one in content["extremes"]]})


@dataclass(slots=True)
class Totals:
    """Sums over units; grows with the number of bins, not with that of pictures."""

    units: int = 0
    pictures: int = 0
    errors: int = 0
    skipped: int = 0
    short: int = 0
    tokens: int = 0
    size_bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    lengths: Counter[str] = field(default_factory=Counter)
    psnr_db: Counter[str] = field(default_factory=Counter)
    extremes: list[Extreme] = field(default_factory=list)

    def add(self, report: UnitReport) -> None:
        """Count a unit."""
        self.units += 1
        self.pictures += report.pictures
        self.errors += len(report.errors)
        self.skipped += report.skipped
        self.short += report.short
        self.tokens += report.tokens
        self.size_bytes += report.size_bytes
        self.reasons.update(error["reason"] for error in report.errors)
        self.lengths.update(report.lengths)
        self.psnr_db.update(report.psnr_db)
        self.extremes = both_ends([*self.extremes, *report.extremes])

    @property
    def samples(self) -> int:
        """Good, bad and skipped ones."""
        return self.pictures + self.errors + self.skipped

    @property
    def hardest(self) -> list[Extreme]:
        """Those that look worst, worst first."""
        return self.extremes[: len(self.extremes) // 2]

    @property
    def easiest(self) -> list[Extreme]:
        """Those that look best, best first."""
        return self.extremes[len(self.extremes) // 2 :][::-1]

    def as_json(self) -> dict[str, Any]:
        """For report.json."""
        each = max(1, self.pictures)
        return {
            "pictures": self.pictures,
            "errors": self.errors,
            "error_reasons": dict(self.reasons.most_common()),
            "skipped": self.skipped,
            "short_of_quality": self.short,
            "tokens": self.tokens,
            "size_bytes": self.size_bytes,
            "tokens_per_picture": round(self.tokens / each, 2),
            "bytes_per_picture": round(self.size_bytes / each, 2),
            "lengths": length_rows(self.lengths),
            "predicted_psnr": psnr_rows(self.psnr_db),
            "hardest": [asdict(one) for one in self.hardest],
            "easiest": [asdict(one) for one in self.easiest],
        }


def report_path(folder: Path, index: int) -> Path:
    """Where the report of a unit lies, once it is done."""
    return folder / REPORTS / f"{index:06d}.json"


def read_report(folder: Path, index: int) -> UnitReport:
    """The report of a unit that is done."""
    return UnitReport.from_json(json.loads(report_path(folder, index).read_text()))


def both_ends(extremes: list[Extreme], count: int = _EXTREMES) -> list[Extreme]:
    """The lowest and the highest, in order."""
    ordered = sorted(extremes)
    return ordered if len(ordered) <= 2 * count else ordered[:count] + ordered[-count:]
