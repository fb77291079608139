"""What is known around every coefficient of a pyramid, for all of them at once.

    i32[n] of the bands, one after the other → rows → neighbours of a row at once, in vector registers

A table of neighbours would be gentler to read, but gathering through it took four times as long. At a border
a coefficient's row or column stands for the one that is missing. Compiled: see compiled.py.

Legend: n coefficients, B bands, G groups of neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tokenizer.compiled import compiled
from tokenizer.wavelet import MAX_SPLITS, Band, pyramid

Indices = NDArray[np.int32]

NUM_COLOURS = 3
# Groups of neighbours: next to it, cornerwise, parent, other orientations, other colours, around the parent.
EDGES, CORNERS, PARENT, TURNED, COLOURS, NEAR_PARENT = range(6)
NUM_GROUPS = 6
# Columns of the table of bands.
START, TURNS, ROWS, COLUMNS = range(4)


def category_count() -> int:
    """Categories: band depth x colour x (diagonal or not)."""
    return (MAX_SPLITS + 1) * NUM_COLOURS * 2


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """Where the neighbours of a pyramid's coefficients are."""

    bands: Indices
    """Start in the flat vector, orientations (1 or 3), rows, columns, i32[B, 4], coarse to fine."""
    category: Indices
    """i32[n]."""


@lru_cache(maxsize=8)
def surroundings(block: tuple[int, int]) -> Surroundings:
    """Of the pyramid of a block."""
    tree = pyramid(block)
    rows = [(band.start, 1 if band.is_cosine else 3, *band.shape[-2:]) for band in tree.bands]
    return Surroundings(
        np.asarray(rows, np.int32), np.concatenate([_categories(band) for band in tree.bands])
    )


def _categories(band: Band) -> Indices:
    depth = MAX_SPLITS if band.is_cosine else band.depth
    colour = np.arange(NUM_COLOURS).reshape(-1, *[1] * (len(band.shape) - 1))
    diagonal = np.zeros(1, np.int64) if band.is_cosine else (np.arange(3) == 2).reshape(1, 3, 1, 1)
    category = (depth * NUM_COLOURS + colour) * 2 + diagonal
    return np.broadcast_to(category, band.shape).reshape(-1).astype(np.int32)


@compiled
def sum_groups(bands: Indices, values: Indices, sums: Indices) -> None:
    """Sums of `values` i32[n] over each group of neighbours, into `sums` i32[G, n]; half of what is around
    the parent, rounded down."""
    for band in range(len(bands)):
        turns, size = bands[band, TURNS], bands[band, ROWS] * bands[band, COLUMNS]
        for colour in range(NUM_COLOURS):
            for turn in range(turns):
                at = plane_start(bands, band, colour, turn)
                _sum_around(bands, band, values, sums, at)
                _sum_two(
                    values[plane_start(bands, band, colour, turn + 1) :],
                    values[plane_start(bands, band, colour, turn + 2) :],
                    sums[TURNED, at : at + size],
                )
                _sum_two(
                    values[plane_start(bands, band, colour + 1, turn) :],
                    values[plane_start(bands, band, colour + 2, turn) :],
                    sums[COLOURS, at : at + size],
                )
                _copy_parents(bands, band, values, sums[PARENT], colour, turn)
                _sum_near_parents(bands, band, sums, colour, turn)


@compiled
def bands_up_to(bands: Indices, at: int) -> int:
    """How many bands there are up to and with that of coefficient `at`."""
    count = len(bands)
    while bands[count - 1, START] > at:
        count -= 1
    return count


@compiled
def spread(bands: Indices, values: Indices, reach: Indices) -> None:
    """Into `reach` i32[n], the largest of a coefficient's own value, its edges' and its parent's reach."""
    for band in range(len(bands)):
        rows, columns = bands[band, ROWS], bands[band, COLUMNS]
        for colour in range(NUM_COLOURS):
            for turn in range(bands[band, TURNS]):
                at = plane_start(bands, band, colour, turn)
                if band >= 2:  # parents come first
                    _copy_parents(bands, band, reach, reach, colour, turn)
                else:
                    _copy(values[at:], reach[at : at + rows * columns])
                for row in range(rows):
                    here, above, below = _rows_around(at, row, rows, columns)
                    _take_largest(
                        values[here : here + columns],
                        values[above : above + columns],
                        values[below : below + columns],
                        reach[here : here + columns],
                    )


@compiled
def plane_start(bands: Indices, band: int, colour: int, turn: int) -> int:
    """Where the plane of a colour and an orientation starts; both wrap around."""
    turns, size = bands[band, TURNS], bands[band, ROWS] * bands[band, COLUMNS]
    start: int = bands[band, START] + (colour % NUM_COLOURS * turns + turn % turns) * size
    return start


@compiled
def _rows_around(at: int, row: int, rows: int, columns: int) -> tuple[int, int, int]:
    """Where a row of the plane at `at` starts, and those above and below."""
    here = at + row * columns
    return here, here - columns if row > 0 else here, here + columns if row < rows - 1 else here


@compiled
def _sum_around(bands: Indices, band: int, values: Indices, sums: Indices, at: int) -> None:
    rows, columns = bands[band, ROWS], bands[band, COLUMNS]
    for row in range(rows):
        here, above, below = _rows_around(at, row, rows, columns)
        _sum_row(
            values[here : here + columns],
            values[above : above + columns],
            values[below : below + columns],
            sums[EDGES, here : here + columns],
            sums[CORNERS, here : here + columns],
        )


@compiled
def _sum_row(here: Indices, above: Indices, below: Indices, edges: Indices, corners: Indices) -> None:
    last = len(here) - 1
    for x in range(1, last):
        edges[x] = here[x - 1] + here[x + 1] + above[x] + below[x]
    for x in range(1, last):
        corners[x] = above[x - 1] + above[x + 1] + below[x - 1] + below[x + 1]
    second, last_but_one = min(1, last), max(last - 1, 0)
    edges[0] = here[0] + here[second] + above[0] + below[0]
    corners[0] = above[0] + above[second] + below[0] + below[second]
    edges[last] = here[last_but_one] + here[last] + above[last] + below[last]
    corners[last] = above[last_but_one] + above[last] + below[last_but_one] + below[last]


@compiled
def _take_largest(here: Indices, above: Indices, below: Indices, reach: Indices) -> None:
    last = len(here) - 1
    for x in range(len(here)):
        reach[x] = max(max(reach[x], here[x]), max(above[x], below[x]))
    for x in range(1, last):
        reach[x] = max(reach[x], max(here[x - 1], here[x + 1]))
    reach[0] = max(reach[0], here[min(1, last)])
    reach[last] = max(reach[last], here[max(last - 1, 0)])


@compiled
def _copy_parents(bands: Indices, band: int, values: Indices, out: Indices, colour: int, turn: int) -> None:
    """Into a plane of `out`, what `values` holds at the parents; the two coarsest bands are their own."""
    at, rows, columns = plane_start(bands, band, colour, turn), bands[band, ROWS], bands[band, COLUMNS]
    if band < 2:
        _copy(values[at:], out[at : at + rows * columns])
        return
    parents, half = plane_start(bands, band - 1, colour, turn), columns // 2
    for row in range(rows):
        start = parents + row // 2 * half
        _double(values[start : start + half], out[at + row * columns : at + (row + 1) * columns])


@compiled
def _sum_near_parents(bands: Indices, band: int, sums: Indices, colour: int, turn: int) -> None:
    """Coarse bands come first, so the sums around the parents are there already."""
    at, rows, columns = plane_start(bands, band, colour, turn), bands[band, ROWS], bands[band, COLUMNS]
    size = rows * columns
    if band < 2:
        _halve_two(
            sums[EDGES, at : at + size], sums[CORNERS, at : at + size], sums[NEAR_PARENT, at : at + size]
        )
        return
    parents, half = plane_start(bands, band - 1, colour, turn), columns // 2
    for row in range(rows):
        start, end = parents + row // 2 * half, parents + (row // 2 + 1) * half
        here = at + row * columns
        _double_half(
            sums[EDGES, start:end], sums[CORNERS, start:end], sums[NEAR_PARENT, here : here + columns]
        )


@compiled
def _halve_two(one: Indices, other: Indices, out: Indices) -> None:
    for x in range(len(out)):
        out[x] = (one[x] + other[x]) >> 1


@compiled
def _double_half(one: Indices, other: Indices, out: Indices) -> None:
    for x in range(len(one)):
        half = (one[x] + other[x]) >> 1
        out[2 * x] = half
        out[2 * x + 1] = half


@compiled
def _double(values: Indices, out: Indices) -> None:
    for x in range(len(values)):
        out[2 * x] = values[x]
        out[2 * x + 1] = values[x]


@compiled
def _sum_two(one: Indices, other: Indices, out: Indices) -> None:
    for x in range(len(out)):
        out[x] = one[x] + other[x]


@compiled
def _copy(values: Indices, out: Indices) -> None:
    for x in range(len(out)):
        out[x] = values[x]
