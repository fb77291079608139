"""What a caller asks for, and the length that keeps it. Pure numbers: no model, no picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tokenizer.distortion import DistortionCurve
from tokenizer.errors import InvalidBudget

DEFAULT_COVERAGE = 0.9

Mode = Literal["fast", "verify", "exact"]
MODES: tuple[Mode, ...] = ("fast", "verify", "exact")


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Exactly one limit; raises InvalidBudget otherwise.

    >>> TokenBudget(max_bytes=200).max_bytes
    200
    >>> TokenBudget(max_bytes=200, min_psnr_db=24.0)
    Traceback (most recent call last):
    tokenizer.errors.InvalidBudget: give exactly one limit, got max_bytes, min_psnr_db
    """

    max_tokens: int | None = None
    """At most this many tokens (bytes without header)."""

    max_bytes: int | None = None
    """At most this many bytes of a `.tsr` file, header included."""

    bits_per_pixel: float | None = None
    """At most this many bits of a `.tsr` file, header included, per pixel of the source."""

    min_psnr_db: float | None = None
    """The shortest stream expected to reach this PSNR against the source; all tokens if none does."""

    coverage: float = DEFAULT_COVERAGE
    """Share of pictures that must meet `min_psnr_db`; picks the conformal margin."""

    mode: Mode = "fast"
    """How `min_psnr_db` is made sure: by the predicted curve alone, by one or two decodes, or by as many
    as it takes to find a length that meets it while one token less does not."""

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in _LIMITS}
        given = {name: value for name, value in limits.items() if value is not None}
        if len(given) != 1:
            raise InvalidBudget(f"give exactly one limit, got {', '.join(given) or 'none'}")
        ((name, value),) = given.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InvalidBudget(f"{name} must be above 0, got {value!r}")
        if not math.isfinite(value):
            raise InvalidBudget(f"{name} must be finite, got {value!r}")
        if name in ("max_tokens", "max_bytes") and not isinstance(value, int):
            raise InvalidBudget(f"{name} must be a whole number, got {value!r}")
        if not 0.0 < self.coverage < 1.0:
            raise InvalidBudget(f"coverage must lie between 0 and 1, got {self.coverage!r}")
        if self.mode not in MODES:
            raise InvalidBudget(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.mode != "fast" and self.min_psnr_db is None:
            raise InvalidBudget(f"mode {self.mode} needs min_psnr_db: {name} is kept without any decode")


_LIMITS = ("max_tokens", "max_bytes", "bits_per_pixel", "min_psnr_db")


def choose_length(
    budget: TokenBudget | None,
    *,
    available_tokens: int,
    header_size_bytes: int,
    source_area_px: int,
    curve: DistortionCurve | None,
) -> int:
    """The length that keeps the budget; a larger budget never gives fewer tokens. Decodes nothing.

    Raises InvalidBudget if not even one token fits, or if a quality is asked of a model without curve.
    """
    if budget is None:
        return available_tokens
    if budget.min_psnr_db is not None:
        return _length_for_quality(budget.min_psnr_db, budget.coverage, curve, available_tokens)
    if budget.max_tokens is not None:
        return min(budget.max_tokens, available_tokens)
    if budget.max_bytes is not None:
        size_bytes = budget.max_bytes
    else:
        assert budget.bits_per_pixel is not None  # the constructor allows exactly one limit
        size_bytes = int(min(budget.bits_per_pixel * source_area_px / 8, 2.0**53))
    if size_bytes <= header_size_bytes:
        raise InvalidBudget(
            f"{size_bytes} bytes hold no token: the header takes {header_size_bytes}, "
            f"so the smallest stream has {header_size_bytes + 1} (use max_tokens for the bare form)"
        )
    return min(size_bytes - header_size_bytes, available_tokens)


def _length_for_quality(
    min_psnr_db: float, coverage: float, curve: DistortionCurve | None, available_tokens: int
) -> int:
    if curve is None:
        raise InvalidBudget("this model predicts no quality; ask for bytes instead")
    length = curve.shortest_length(min_psnr_db, coverage)
    return available_tokens if length is None else min(length, available_tokens)
