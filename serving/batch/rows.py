"""One picture of the output: its tokens, or why there are none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenizer.errors import TokenizerError
from tokenizer.sequence import TokenSequence

_MAX_MESSAGE_CHARS = 300

_log = logging.getLogger("tessera.batch")


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
    is_short: bool = False
    """The whole stream does not reach the quality that was asked."""


KEY_REPEATED = Failure("KEY_REPEATED", "what an earlier picture becomes has this place; keys must differ")
CRASHED = Failure("WORKER_CRASHED", "a worker process died over this picture")


def failure_of(error: Exception) -> Failure:
    """The error as the row keeps it; what is not ours is logged with its stack."""
    if not isinstance(error, TokenizerError):
        _log.error("a picture failed unexpectedly", exc_info=error)
        return Failure("INTERNAL", type(error).__name__)
    return Failure(error.reason, " ".join(str(error).split())[:_MAX_MESSAGE_CHARS])
