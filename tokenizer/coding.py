"""The two codings of a stream. Knows nothing of either. The register layout has the fixed one alone.

fixed   every bit has one meaning, by its place: for language models, and wherever tokens are counted
range   the same picture in fewer bytes; a byte has no meaning of its own, but any prefix decodes
"""

from __future__ import annotations

from enum import StrEnum


class Coding(StrEnum):
    """How coefficients become tokens."""

    FIXED = "fixed"
    RANGE = "range"


DEFAULT_CODING = Coding.RANGE
