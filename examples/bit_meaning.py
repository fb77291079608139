"""What each bit of a fixed-coded stream means, as a language model can be told it. Knows no torch.

    meanings = Meanings(layout, first_tokens, canvases, count)
    for asked in meanings.walk():        one bit of every stream at a time
        asked.facts, asked.near          what is asked, and what is known around it
        meanings.tell(asked, bits)       then the next

A bit is one halving of the cell that holds one coefficient (docs/bitstream.md, 4). Asked for the next bit,
one knows which coefficient it belongs to (colour plane, vertical and horizontal frequency), the bits that
this coefficient has already, and the values so far of the coefficients beside it in the spectrum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.spectral import SpectralLayout, block_size

Bits = NDArray[np.uint8]
Facts = NDArray[np.int16]
Near = NDArray[np.int8]

FREQUENCIES = 48
"""Higher ones count as the last: short streams hardly have any."""
_REACH = 2
NEAR = 3 * (2 * _REACH + 1) ** 2
"""Coefficients around the asked one, in all three colour planes, itself included."""
VALUE_STEPS = 16
"""Values are kept in sixteenths of a standard deviation."""
FACT_SIZES = (3, FREQUENCIES, FREQUENCIES, 10, 256)
"""How many values each fact has: colour plane, frequencies down and across, bit plane, bits so far."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One bit of each of N streams."""

    place: int
    facts: Facts
    """[N, 5], see FACT_SIZES."""
    near: Near
    """[N, NEAR]: frequencies down, across, colour plane; 0 where nothing is known."""


class Meanings:
    """N streams of `count` bits after the first token, read or written bit by bit."""

    def __init__(
        self, layout: SpectralLayout, first_tokens: Bits, canvases: Sequence[Size], count: int
    ) -> None:
        self._tables, self._count, self._rows = layout.tables, count, np.arange(len(first_tokens))
        meant = [
            _meant(layout, layout.class_of(bytes((token,))), canvas, count)
            for token, canvas in zip(first_tokens.tolist(), canvases, strict=True)
        ]
        # [5, N, count]: colour plane, frequencies down and across, bit plane, group.
        self._meant = np.stack(meant, axis=1)
        side = FREQUENCIES + 2 * _REACH
        self._values = np.zeros((len(first_tokens), 3, side, side), np.int8)
        # A cell as the path to it: 1, then a bit for each halving.
        self._cells = np.ones((len(first_tokens), 3, FREQUENCIES, FREQUENCIES), np.int16)

    @property
    def odd_across(self) -> NDArray[np.bool_]:
        """Bits of coefficients that a mirrored picture has with the other sign, [N, count]."""
        return self._meant[2] % 2 == 1

    def walk(self) -> Iterator[Asked]:
        """Every bit in turn; `tell` its value before going on."""
        window = np.arange(2 * _REACH + 1)
        for place in range(self._count):
            colour, down, across, plane, _ = self._meant[:, :, place]
            cell = np.minimum(self._cells[self._rows, colour, down, across], FACT_SIZES[4] - 1)
            facts = np.stack([colour, down, across, plane, cell], axis=1).astype(np.int16)
            rows, columns = down[:, None] + window, across[:, None] + window
            near = self._values[self._rows[:, None, None], :, rows[:, :, None], columns[:, None, :]]
            yield Asked(place, facts, near.reshape(len(facts), NEAR))

    def tell(self, asked: Asked, bits: Bits) -> None:
        """The values of the asked bits, [N]."""
        colour, down, across, _, group = self._meant[:, :, asked.place]
        at = (self._rows, colour, down, across)
        cell = self._cells[at] = np.minimum(
            2 * self._cells[at] + bits, self._tables.reconstruction.shape[1] - 1
        )
        value = np.clip(VALUE_STEPS * self._tables.reconstruction[group, cell], -127, 127)
        self._values[self._rows, colour, down + _REACH, across + _REACH] = np.rint(value).astype(np.int8)


def read(meanings: Meanings, bits: Bits) -> tuple[Facts, Near]:
    """Facts [N, M, 5] and surroundings [N, M, NEAR] of all bits [N, M] of whole streams."""
    facts = np.empty((*bits.shape, len(FACT_SIZES)), np.int16)
    near = np.empty((*bits.shape, NEAR), np.int8)
    for asked in meanings.walk():
        facts[:, asked.place], near[:, asked.place] = asked.facts, asked.near
        meanings.tell(asked, bits[:, asked.place])
    return facts, near


def _meant(layout: SpectralLayout, class_id: int, canvas: Size, count: int) -> NDArray[np.int16]:
    """i16[5, count]."""
    order, (high, wide) = layout.order(class_id, canvas), block_size(canvas)
    at = order.coefficient[:count]
    colour, place = np.divmod(at, high * wide)
    down, across = np.divmod(place, wide)
    group = layout.groups(canvas)[at]
    last = FREQUENCIES - 1
    # The same order of tall and wide frequencies, so that odd ones stay odd.
    down, across = (np.where(f > last, last - 1 + (f - last + 1) % 2, f) for f in (down, across))
    return np.stack([colour, down, across, order.plane[:count], group]).astype(np.int16)
