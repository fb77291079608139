"""Tessera: pictures as ordered one-byte tokens of which every prefix is a picture. Imports no torch."""

from tokenizer.budget import TokenBudget
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.distortion import DistortionCurve
from tokenizer.errors import TokenizerError
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.sequence import TokenSequence

__all__ = [
    "Coding",
    "DistortionCurve",
    "ImageTokenizer",
    "Size",
    "TokenBudget",
    "TokenSequence",
    "TokenizerError",
]
