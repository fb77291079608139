"""What a job is asked for: everything that changes its output, as plain data. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from tokenizer.allocation import Goal
from tokenizer.budget import DEFAULT_COVERAGE, Mode, TokenBudget
from tokenizer.coding import Coding
from tokenizer.set_price import Terms

Command = Literal["encode", "decode"]
Phase = Literal[Command, "whole", "cut"]
"""What is done with every unit; a budget for the set takes two, `whole` and `cut`."""
SinkName = Literal["parquet", "webdataset", "folder"]
SINKS: tuple[SinkName, ...] = ("parquet", "webdataset", "folder")
TokenColumn = Literal["list", "binary"]
TOKEN_COLUMNS: tuple[TokenColumn, ...] = ("list", "binary")
DEFAULT_UNIT_SIZE = 1000
"""Pictures of one output shard: about a minute of one core, which is what a killed worker loses at most."""


class JobOptions(Protocol):
    """What a job needs to know of its options, whichever way it goes."""

    @property
    def command(self) -> Command:
        """Which way it goes; one folder holds one of them."""

    @property
    def model(self) -> str:
        """Name of a shipped model, or a folder."""

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""


@dataclass(frozen=True, slots=True)
class SetBudget:
    """One total for the whole data set."""

    total_bytes: int
    goal: Goal = "mse"
    min_bytes: int = 0
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """Two jobs with equal options, source and model write equal shards."""

    sources: tuple[str, ...]
    sink: SinkName = "parquet"
    model: str = "default"
    coding: Coding | None = None
    canvas_area_px: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None
    bits_per_pixel: float | None = None
    min_psnr_db: float | None = None
    coverage: float = DEFAULT_COVERAGE
    mode: Mode = "fast"
    set_budget: SetBudget | None = None
    image_column: str = "image"
    token_column: TokenColumn = "list"
    unit_size: int = DEFAULT_UNIT_SIZE

    @property
    def command(self) -> Command:
        """See JobOptions."""
        return "encode"

    @property
    def is_bare(self) -> bool:
        """A Parquet file keeps size and model in columns, so its streams spend no bytes on headers."""
        return self.sink == "parquet"

    @property
    def terms(self) -> Terms:
        """How the pictures share `set_budget`."""
        shared = self.set_budget
        assert shared is not None  # only asked where there is one
        return Terms(shared.goal, shared.min_bytes, shared.max_bytes, bare=self.is_bare)

    @property
    def budget(self) -> TokenBudget | None:
        """Budget of each picture. Raises InvalidBudget."""
        amounts = (self.max_tokens, self.max_bytes, self.bits_per_pixel, self.min_psnr_db)
        if all(amount is None for amount in amounts):
            return None
        return TokenBudget(
            max_tokens=self.max_tokens,
            max_bytes=self.max_bytes,
            bits_per_pixel=self.bits_per_pixel,
            min_psnr_db=self.min_psnr_db,
            coverage=self.coverage,
            mode=self.mode,
        )

    def as_json(self) -> dict[str, Any]:
        """For the manifest, and for workers in other processes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EncodeOptions:
        """The way back."""
        values = dict(content)
        values["sources"] = tuple(values["sources"])
        values["coding"] = None if values["coding"] is None else Coding(values["coding"])
        values["set_budget"] = None if values["set_budget"] is None else SetBudget(**values["set_budget"])
        return cls(**values)
