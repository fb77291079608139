"""Units of work: a range of one source, small enough to be done again. Plain data that crosses processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from serving.batch.errors import SourceRefused


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of a source, or what lies in its place.

    `data` is None where a sample has no picture. `fields` are the other members of a WebDataset sample.
    """

    key: str
    data: bytes | None
    fields: Mapping[str, bytes] = field(default_factory=dict)
    is_poison: bool = False
    """A worker died over it before."""
    is_repeat: bool = False
    """Its stream would lie where that of an earlier sample lies."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Samples start..stop of one source file, or the listed files of a tree; becomes one output shard."""

    index: int
    kind: str
    """files, tar or parquet: who reads it."""
    source: str
    """Path or URL of the file, or of the tree."""
    start: int
    stop: int
    offset: int = 0
    """tar: byte at which sample `start` begins."""
    members: tuple[str, ...] = ()
    """files: paths below `source`, in order."""
    identity: str = ""
    """What the source file was when the unit was planned."""
    poison: tuple[int, ...] = ()
    """Samples, counted from the first of the unit, over which workers died; they become errors."""
    repeats: tuple[int, ...] = ()
    """Samples, counted likewise, whose place in the output an earlier one has; they become errors."""

    @property
    def name(self) -> str:
        """Stem of its output shard."""
        return f"part-{self.index:06d}"

    @property
    def count(self) -> int:
        """Samples in it."""
        return self.stop - self.start

    def as_json(self) -> dict[str, Any]:
        """For a Ray row or a digest."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Unit:
        """The way back."""
        lists = {name: tuple(content[name]) for name in ("members", "poison", "repeats")}
        return cls(**{**content, **lists})


class Source(Protocol):
    """Pictures in an order that stays the same."""

    def units(self, first_index: int, unit_size: int) -> Iterator[Unit]:
        """Its units, numbered on. Raises SourceRefused."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much there is, and a digest that changes with any unit."""

    units: int
    samples: int
    digest: str

    @classmethod
    def of(cls, units: Iterator[Unit]) -> Plan:
        """Count and digest; goes through all units and keeps none."""
        digest, count, samples = hashlib.sha256(), 0, 0
        for unit in units:
            digest.update(_as_bytes(unit))
            count, samples = count + 1, samples + unit.count
        return cls(count, samples, digest.hexdigest())

    def checked(self, units: Iterator[Unit]) -> Iterator[Unit]:
        """The units, listed anew while the job runs. Raises SourceRefused after the last if they differ."""
        digest = hashlib.sha256()
        for unit in units:
            digest.update(_as_bytes(unit))
            yield unit
        if digest.hexdigest() != self.digest:
            raise SourceRefused("the sources have changed since the job began: start another in a new folder")


def _as_bytes(unit: Unit) -> bytes:
    return json.dumps(unit.as_json(), sort_keys=True).encode()
