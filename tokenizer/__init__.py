"""Tessera: pictures as ordered one-byte tokens of which every prefix is a picture. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokenizer.budget import TokenBudget
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.distortion import DistortionCurve
from tokenizer.errors import TokenizerError
from tokenizer.sequence import TokenSequence

if TYPE_CHECKING:
    from tokenizer.image_tokenizer import ImageTokenizer

__all__ = [
    "Coding",
    "DistortionCurve",
    "ImageTokenizer",
    "Size",
    "TokenBudget",
    "TokenSequence",
    "TokenizerError",
]


def __getattr__(name: str) -> Any:
    """ImageTokenizer when it is first asked for: it brings a compiler, which a client never needs."""
    if name == "ImageTokenizer":
        from tokenizer.image_tokenizer import ImageTokenizer

        return ImageTokenizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
