"""Pictures in a labelled grid, as one PNG. Knows what to draw, not where the pictures come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CELL_PX = 288
_GAP_PX = 14
_TITLE_PX, _HEAD_PX, _CAPTION_PX, _SIDE_PX = 58, 34, 30, 96
_PAPER, _INK, _SOFT, _EMPTY = (250, 250, 247), (24, 24, 24), (120, 120, 116), (228, 228, 223)


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture with its caption; without picture, `caption` stands in an empty frame."""

    caption: str
    pixels: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Cells of one picture and one codec, left to right; None leaves the place blank."""

    label: str
    cells: Sequence[Cell | None]


def draw_sheet(title: str, heads: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    """The sheet: a title, a head for each column, and the rows, each as high as its pictures need."""
    heights = [_row_height_px(row) for row in rows]
    width = _SIDE_PX + len(heads) * (CELL_PX + _GAP_PX) + _GAP_PX
    height = _TITLE_PX + _HEAD_PX + sum(heights) + len(rows) * (_CAPTION_PX + _GAP_PX)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP_PX, _TITLE_PX // 2), title, _INK, _font(24), anchor="lm")
    for column, head in enumerate(heads):
        draw.text((_left(column), _TITLE_PX + _HEAD_PX // 2), head, _INK, _font(20), anchor="lm")
    top = _TITLE_PX + _HEAD_PX
    for row, row_height in zip(rows, heights, strict=True):
        draw.multiline_text((_GAP_PX, top), row.label, _INK, _font(17), spacing=6)
        for column, cell in enumerate(row.cells):
            if cell is not None:
                _draw_cell(sheet, draw, cell, _left(column), top, row_height)
        top += row_height + _CAPTION_PX + _GAP_PX
    return sheet


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, left: int, top: int, height: int
) -> None:
    if cell.pixels is None:
        draw.rectangle((left, top, left + CELL_PX - 1, top + height - 1), _EMPTY)
        draw.text((left + CELL_PX // 2, top + height // 2), cell.caption, _SOFT, _font(17), anchor="mm")
        return
    picture = Image.fromarray(cell.pixels).resize(_fit(cell.pixels), Image.Resampling.LANCZOS)
    sheet.paste(picture, (left, top))
    draw.text((left, top + height + _CAPTION_PX // 2), cell.caption, _INK, _font(17), anchor="lm")


def _fit(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height inside a square cell."""
    height, width = pixels.shape[:2]
    scale = CELL_PX / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _row_height_px(row: Row) -> int:
    return max(
        (_fit(cell.pixels)[1] for cell in row.cells if cell and cell.pixels is not None), default=CELL_PX // 2
    )


def _left(column: int) -> int:
    return _SIDE_PX + column * (CELL_PX + _GAP_PX)


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
