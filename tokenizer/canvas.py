"""Which pixel grid a picture is worked on, from its size alone. Knows nothing of models.

The canvas has the aspect of the source, sides that are multiples of 16 and about the area the
model was trained at. It never has (much) more pixels than the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

MULTIPLE_PX = 16
DEFAULT_AREA_PX = 256 * 256
# One byte each in the file header: side / 16 - 1 in 0..255.
MAX_SIDE_PX = 256 * MULTIPLE_PX
MAX_SOURCE_SIDE_PX = 65_536


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """Width and height in pixels."""

    width_px: int
    height_px: int

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return self.width_px * self.height_px

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"


def choose_canvas(source: Size, area_px: int = DEFAULT_AREA_PX) -> Size:
    """The canvas for a source picture, in integers only: part of the file format.

    >>> choose_canvas(Size(768, 512))
    Size(width_px=320, height_px=208)
    >>> choose_canvas(Size(7, 7))
    Size(width_px=16, height_px=16)
    """
    area = min(area_px, source.area_px)
    return Size(
        _side(source.width_px, source.height_px, area),
        _side(source.height_px, source.width_px, area),
    )


def _side(along_px: int, across_px: int, area_px: int) -> int:
    """sqrt(area * along / across), to the nearest multiple of 16, within the limits."""
    ideal_px = isqrt(area_px * along_px // across_px)
    nearest_px = (ideal_px + MULTIPLE_PX // 2) // MULTIPLE_PX * MULTIPLE_PX
    return max(MULTIPLE_PX, min(MAX_SIDE_PX, nearest_px))


def is_canvas(size: Size) -> bool:
    """True if both sides are multiples of 16 within 16..4096."""
    return all(
        side % MULTIPLE_PX == 0 and MULTIPLE_PX <= side <= MAX_SIDE_PX
        for side in (size.width_px, size.height_px)
    )
