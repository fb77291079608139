"""What a token sequence is: ordered one-byte tokens and the facts needed to show them as a picture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size, choose_canvas
from tokenizer.coding import DEFAULT_CODING, Coding
from tokenizer.distortion import DistortionCurve


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Coarse-to-fine tokens of one picture; every prefix is a picture.

    >>> whole = TokenSequence(bytes(range(64)), Size(640, 480), "0011aabb")
    >>> whole.length, whole.prefix(24).length
    (64, 24)
    >>> TokenSequence.from_bytes(whole.to_bytes()) == whole
    True
    """

    tokens: bytes
    """The tokens, one byte each, most important first."""

    source: Size
    """Size of the picture that was encoded, and that decoding restores."""

    fingerprint: str
    """Eight hex digits that name the model; only the same model can decode."""

    canvas: Size = field(default=Size(0, 0))
    """Pixel grid the model worked on; by default the one that `choose_canvas` gives."""

    curve: DistortionCurve | None = field(default=None, compare=False, repr=False)
    """Predicted PSNR per length, known after encoding; not part of the bytes."""

    coding: Coding = DEFAULT_CODING
    """What the tokens mean: bits by their place, or the bytes of a range coder."""

    def __post_init__(self) -> None:
        if self.canvas == Size(0, 0):
            object.__setattr__(self, "canvas", choose_canvas(self.source))

    @property
    def length(self) -> int:
        """Number of tokens; one token is one byte."""
        return len(self.tokens)

    @property
    def token_ids(self) -> NDArray[np.uint8]:
        """The tokens as uint8[length], read-only."""
        return np.frombuffer(self.tokens, dtype=np.uint8)

    @property
    def predicted_psnr_db(self) -> float | None:
        """What the halting head expects of this very length; None on decoded streams."""
        return None if self.curve is None else self.curve.psnr_db_at(self.length)

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the tokens (without header) per pixel of the source."""
        return 8 * self.length / self.source.area_px

    def prefix(self, length: int) -> TokenSequence:
        """The first `length` tokens, or all of them if there are fewer. Raises ValueError below 0."""
        if length < 0:
            raise ValueError(f"a prefix has at least 0 tokens, got {length}")
        return replace(self, tokens=self.tokens[:length])

    def to_bytes(self) -> bytes:
        """The `.tsr` file: a header of 10 or 12 bytes, then the tokens (docs/bitstream.md)."""
        from tokenizer.bitstream import pack

        return pack(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> TokenSequence:
        """Read a `.tsr` file or any prefix of one that holds the header. Raises BitstreamError."""
        from tokenizer.bitstream import unpack

        return unpack(data)
