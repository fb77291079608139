"""What a valid request asks for, and what work gives back, in our own types. Knows no protobuf, no network.

A command can only come out of `convert`, so whoever holds one need not check it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokenizer.budget import TokenBudget
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.providers import ProviderFallback
from tokenizer.realism import Realism
from tokenizer.sequence import TokenSequence

Pixels = NDArray[np.uint8]


class Tokenizer(Protocol):
    """The part of ImageTokenizer that serving needs."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def has_realism(self) -> bool: ...
    @property
    def codings(self) -> tuple[Coding, ...]: ...
    @property
    def canvas_area_px(self) -> int: ...
    @property
    def provider_fallback(self) -> ProviderFallback | None: ...

    def max_tokens(self, canvas: Size) -> int:
        """The most tokens the model makes on this canvas; in fixed coding, exactly so many."""

    def encode(self, images: list[Pixels], *, coding: Coding, canvas_area_px: int) -> list[TokenSequence]:
        """All tokens of each picture."""

    def decode(
        self, sequences: list[TokenSequence], *, max_pixels: int, realism: float, steps: int, seed: int
    ) -> list[Pixels]:
        """Each picture at its source size."""


class StopReason(Enum):
    """Why a stream ends where it does."""

    ALL_TOKENS = "all_tokens"
    TOKEN_LIMIT = "token_limit"
    SIZE_LIMIT = "size_limit"
    QUALITY_REACHED = "quality_reached"
    QUALITY_UNREACHABLE = "quality_unreachable"


class PictureFormat(Enum):
    """How a decoded picture is written."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class OutputForm:
    """Format of a decoded picture; quality None is the format's default."""

    format: PictureFormat = PictureFormat.PNG
    quality: int | None = None
    lossless: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """What to spend; `fail_short` refuses instead of sending all tokens when a quality is out of reach."""

    budget: TokenBudget | None = None
    fail_short: bool = False


@dataclass(frozen=True, slots=True)
class EncodeCommand:
    """A picture whose header was checked, still encoded (`file`), or already pixels."""

    source: Size
    file: bytes | None
    pixels: Pixels | None
    rate: Rate
    coding: Coding
    canvas_area_px: int
    include_token_ids: bool
    format: str
    """png, jpeg, webp or tensor; a label of metrics."""


@dataclass(frozen=True, slots=True)
class DecodeCommand:
    """A stream of this server's model, cut to the length that is asked."""

    sequence: TokenSequence
    form: OutputForm
    was_cut: bool
    """True if fewer tokens are decoded than the model makes for this picture, as far as that is known."""
    realism: Realism


@dataclass(frozen=True, slots=True)
class DecodeStreamCommand:
    """One stream at growing lengths; the last one is the whole of it."""

    sequence: TokenSequence
    form: OutputForm
    lengths: tuple[int, ...]
    realism: Realism


@dataclass(frozen=True, slots=True)
class TruncateCommand:
    """A stream of any model, and a limit in tokens or bytes."""

    sequence: TokenSequence
    budget: TokenBudget | None


@dataclass(frozen=True, slots=True)
class Encoded:
    """The whole stream of one picture and the length that the rate asks for."""

    whole: TokenSequence
    length: int
    stop_reason: StopReason

    @property
    def sequence(self) -> TokenSequence:
        """The stream to send."""
        return self.whole.prefix(self.length)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture as bytes."""

    data: bytes
    form: OutputForm
    size: Size
