"""What the bench asks of a peer codec. Knows no particular one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class Codec:
    """A way to make files of many sizes from one picture, by a mode and a quality."""

    name: str
    version: str
    """Everything that decides its bytes and pixels; kept results are valid for this version only."""
    modes: tuple[str, ...]
    """Settings that are all tried."""
    qualities: tuple[int, ...]
    """Settings that are searched: files grow along this list."""
    encode: Callable[[Image.Image, str, int], bytes]
    """(picture, mode, quality) -> the whole file."""
    decode: Callable[[bytes], Image.Image]
    fixed_side_px: int | None = None
    """Long side of what is encoded; None if every downsampled size is to be tried."""
    refine_modes: tuple[str, ...] = ()
    """Slower modes, tried only at the sizes and byte counts where `modes` did best."""
