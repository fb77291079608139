"""A histogram as bars, drawn with Pillow: a job on a cluster has no plotting library. Knows no pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

INK, MUTED, GRID, BARS = (27, 27, 31), (107, 107, 118), (228, 228, 234), (11, 87, 176)
_TITLE_PX, _LABELS_PX, _LEFT_PX, _HEADROOM_PX = 30, 46, 62, 22
_GRID_LINES = 4
# A count above every bar is read easily for so many, and is clutter beyond.
_MAX_COUNTED = 20


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges; one edge more than counts."""

    title: str
    axis: str
    edges: Sequence[str]
    counts: Sequence[int]


def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, so that a report looks alike everywhere."""
    return ImageFont.load_default(size_px)


def draw_histogram(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], chart: Histogram) -> None:
    """The chart within (left, top, right, bottom), title and labels included."""
    draw.text(box[:2], chart.title, INK, font(18))
    left, top = box[0] + _LEFT_PX, box[1] + _TITLE_PX + _HEADROOM_PX
    right, bottom = box[2], box[3] - _LABELS_PX
    step = nice_step(max(chart.counts, default=0))
    highest = step * max(1, math.ceil(max(chart.counts, default=0) / step))
    for value in range(0, highest + 1, step):
        y = bottom - round((bottom - top) * value / highest)
        draw.line((left, y, right, y), GRID if value else MUTED)
        draw.text((left - 8, y), short(value), MUTED, font(13), anchor="rm")
    width = (right - left) / max(1, len(chart.counts))
    for place, count in enumerate(chart.counts):
        x, after = left + place * width, left + (place + 1) * width
        y = bottom - round((bottom - top) * count / highest)
        if count:
            # A single picture among millions shows as a line, not as nothing.
            draw.rectangle((round(x) + 1, min(y, bottom - 2), round(after) - 2, bottom - 1), BARS)
        if count and len(chart.counts) <= _MAX_COUNTED:
            draw.text(((x + after) / 2, y - 4), short(count), MUTED, font(12), anchor="ms")
    _draw_edges(draw, left, bottom, width, chart.edges)
    draw.text(((left + right) / 2, bottom + 36), chart.axis, MUTED, font(14), anchor="mm")


def nice_step(highest: int) -> int:
    """Distance of grid lines: 1, 2 or 5 times a power of ten.

    >>> [nice_step(highest) for highest in (0, 3, 24, 97, 118_000)]
    [1, 1, 10, 50, 50000]
    """
    rough = max(1.0, highest / _GRID_LINES)
    power = 10 ** math.floor(math.log10(rough))
    return int(next(power * times for times in (1, 2, 5, 10) if power * times >= rough))


def short(count: int) -> str:
    """A count in few characters.

    >>> short(950), short(1500), short(20_000), short(3_400_000)
    ('950', '1.5k', '20k', '3.4M')
    """
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def _draw_edges(
    draw: ImageDraw.ImageDraw, left: int, bottom: int, width: float, edges: Sequence[str]
) -> None:
    """Every edge that has room; the first always."""
    widest = max((draw.textlength(edge, font(13)) for edge in edges), default=0)
    every = max(1, math.ceil((widest + 10) / width))
    for place, edge in enumerate(edges):
        if place % every == 0:
            x = left + place * width
            draw.line((x, bottom, x, bottom + 4), MUTED)
            draw.text((x, bottom + 8), edge, MUTED, font(13), anchor="ma")
