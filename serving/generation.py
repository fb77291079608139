"""One loaded model in service: its names, and who works with it. Knows no other models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from serving.model import ModelRef, ServedModel
from serving.pipeline import Pipeline

# As many digits as a fingerprint: fewer would name models by accident.
MIN_DIGEST_DIGITS = 8


class ModelState(Enum):
    """Life of a model, in this order."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(slots=True, eq=False)
class Generation:
    """One loaded model, from its first request to its last."""

    source: str
    pipeline: Pipeline
    state: ModelState = ModelState.READY
    leases: int = 0
    _unleased: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._unleased.set()

    @property
    def ref(self) -> ModelRef:
        """What names it."""
        return self.pipeline.model.ref

    def answers_to(self, name: str) -> bool:
        """True for `name`, `name@version` and `name@sha256:<first digits of the digest>`."""
        ref = self.ref
        if name in (ref.name, f"{ref.name}@{ref.version}"):
            return True
        start, marker, digits = name.partition("@sha256:")
        is_prefix = len(digits) >= MIN_DIGEST_DIGITS and ref.digest.startswith(digits.lower())
        return bool(marker) and start == ref.name and is_prefix

    @contextmanager
    def leased(self) -> Iterator[Pipeline]:
        """The pipeline; it is not stopped before the block ends."""
        self.leases += 1
        self._unleased.clear()
        try:
            yield self.pipeline
        finally:
            self.leases -= 1
            if self.leases == 0:
                self._unleased.set()

    async def wait_unleased(self, timeout_s: float) -> bool:
        """True once nobody works with it; False if that took too long."""
        try:
            await asyncio.wait_for(self._unleased.wait(), timeout_s)
        except TimeoutError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model as an operator sees it; `model` is None while it loads."""

    source: str
    state: ModelState
    model: ServedModel | None = None
    leases: int = 0
    is_default: bool = False
