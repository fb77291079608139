"""One picture of the output: its tokens, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenizer.sequence import TokenSequence


@dataclass(frozen=True, slots=True)
class Failure:
    """What was wrong with a picture."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """Exactly one of `sequence` and `failure`; `fields` go on beside the stream in a WebDataset."""

    key: str
    source: str
    sequence: TokenSequence | None = None
    failure: Failure | None = None
    fields: Mapping[str, bytes] = field(default_factory=dict)
