"""How likely a coefficient is to be negative, from the signed values of what is known around it.

    neighbours' signed values over the threshold → one hidden layer, odd but for its biases → odds of 65536

Along an edge neighbours have one sign, across it they alternate, and the edge goes on in the other bands: a
sign then takes less than a bit. Asked only of coefficients that turn out significant, so this network may be
larger than that of `contexts.py`; integers, as there. Compiled: see compiled.py.

Legend: K taps (neighbours), H hidden units, T categories.
"""

from __future__ import annotations

import numpy as np

from tokenizer.compiled import compiled
from tokenizer.contexts import HIDDEN_MAX, LIMIT, NUM_TAPS, TAP_LIMIT, TAP_ONE, ContextModel
from tokenizer.embedded import State, threshold
from tokenizer.range_coder import HALF
from tokenizer.surroundings import COLUMNS, NUM_COLOURS, ROWS, START, TURNS, Indices, plane_start

# The band of cosines has no neighbours in this sense.
NO_CATEGORY = -1


@compiled
def negative_odds(model: ContextModel, taps: Indices, category: int) -> int:
    """Odds of 65536 that a coefficient is negative, from what `read_taps` found around it."""
    if category == NO_CATEGORY:
        return HALF
    total = np.int32(0)
    for h in range(len(model.sign_second)):
        unit = np.int32(0)
        for k in range(NUM_TAPS):
            unit = np.int32(unit + np.int32(taps[k] * model.sign_first[k, h]))
        bias = model.sign_bias[category, h]
        # A picture with all signs turned has mirrored odds: hence the difference.
        odd = _active(model, bias + unit) - _active(model, bias - unit)
        total = np.int32(total + np.int32(odd * model.sign_second[h]))
    odds: int = model.sigmoid[min(max(total >> model.sign_shifts[1], -LIMIT), LIMIT) + LIMIT]
    return odds


@compiled
def _active(model: ContextModel, unit: int) -> int:
    active: int = min(max(np.int32(unit) >> model.sign_shifts[0], np.int32(0)), np.int32(HIDDEN_MAX))
    return active


@compiled
def read_taps(state: State, at: int, plane: int, taps: Indices) -> int:
    """Into `taps`, the signed values around a coefficient in 1/8 threshold, 0 where nothing is found. Returns
    the category, or NO_CATEGORY.

    First its own orientation (above, left, right, below), then the two others (above, left, here, right,
    below each), then the other colours here, then the parents, and what is around the own one (above, left,
    right, below). A detail "down" is read as one "across" of the transposed picture.
    """
    bands = state.bands
    band = len(bands) - 1
    while bands[band, START] > at:
        band -= 1
    if bands[band, TURNS] == 1:
        return NO_CATEGORY
    rows, columns = bands[band, ROWS], bands[band, COLUMNS]
    number, inside = divmod(at - bands[band, START], rows * columns)
    (colour, turn), (row, column) = divmod(number, 3), divmod(inside, columns)
    second, third = (1 if turn == 0 else 0), (1 if turn == 2 else 2)
    count = 0
    for of in (turn, second, third):
        start = plane_start(bands, band, colour, of)
        for step in range(5):
            if step == 2 and of == turn:
                continue
            y, x = _step(step, turn)
            taps[count] = _tap(state, start, rows, columns, row + y, column + x, plane)
            count += 1
    for step in range(1, NUM_COLOURS):
        start = plane_start(bands, band, colour + step, turn)
        taps[count] = _tap(state, start, rows, columns, row, column, plane)
        count += 1
    for of in (turn, second, third):
        taps[count] = _parent_tap(state, band, colour, of, row // 2, column // 2, plane)
        count += 1
    for step in (0, 1, 3, 4):
        y, x = _step(step, turn)
        taps[count] = _parent_tap(state, band, colour, turn, row // 2 + y, column // 2 + x, plane)
        count += 1
    parity = column % 2 * 2 + row % 2 if turn == 1 else row % 2 * 2 + column % 2
    category: int = (colour * 2 + (turn == 2)) * 4 + parity
    return category


@compiled
def _step(step: int, turn: int) -> tuple[int, int]:
    """Rows and columns to go: above, left, here, right, below."""
    y, x = (step == 4) - (step == 0), (step == 3) - (step == 1)
    return (y, x) if turn != 1 else (x, y)


@compiled
def _parent_tap(state: State, band: int, colour: int, turn: int, row: int, column: int, plane: int) -> int:
    """The first details have no parents in this sense."""
    if band < 2:
        return 0
    parent = state.bands[band - 1]
    start = plane_start(state.bands, band - 1, colour, turn)
    return _tap(state, start, parent[ROWS], parent[COLUMNS], row, column, plane)


@compiled
def _tap(state: State, start: int, rows: int, columns: int, row: int, column: int, plane: int) -> int:
    if row < 0 or column < 0 or row >= rows or column >= columns:
        return 0
    at = start + row * columns + column
    if not state.is_found[at]:
        return 0
    # Exact: interval and threshold are powers of two, or few of them added.
    middle = (state.low[at] + np.float32(0.5) * state.width[at]) * np.float32(TAP_ONE / threshold(plane))
    magnitude = int(min(middle, np.float32(TAP_LIMIT)))
    return -magnitude if state.is_negative[at] else magnitude
