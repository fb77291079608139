"""What a language model is told of a bit is what the bitstream says of it, and nothing of later bits."""

from __future__ import annotations

import numpy as np
import pytest
from bit_meaning import FREQUENCIES, NEAR, VALUE_STEPS, Meanings, read

from tokenizer import ImageTokenizer
from tokenizer.canvas import Size
from tokenizer.spectral import SpectralLayout, block_size

CANVASES = (Size(64, 64), Size(96, 64), Size(64, 64))
COUNT = 160


@pytest.fixture(scope="module")
def layout() -> SpectralLayout:
    return ImageTokenizer.from_pretrained().codec.spectral


def streams(seed: int):
    """(first tokens [3], bits [3, COUNT])."""
    draw = np.random.default_rng(seed)
    return np.array([3, 200, 77], np.uint8), draw.integers(0, 2, (3, COUNT)).astype(np.uint8)


def test_facts_are_the_coefficient_the_plane_and_the_bits_before(layout):
    first, bits = streams(0)
    facts, _ = read(Meanings(layout, first, CANVASES, COUNT), bits)
    for row, canvas in enumerate(CANVASES):
        order, (high, wide) = layout.order(int(first[row]) % 128, canvas), block_size(canvas)
        cells: dict[int, int] = {}
        for place, (coefficient, plane) in enumerate(zip(order.coefficient, order.plane, strict=True)):
            if place == COUNT:
                break
            colour, down, across = np.unravel_index(coefficient, (3, high, wide))
            cell = cells.get(coefficient, 1)
            assert down < FREQUENCIES and across < FREQUENCIES
            assert facts[row, place].tolist() == [colour, down, across, plane, cell]
            cells[coefficient] = 2 * cell + bits[row, place]


def test_what_is_known_of_a_coefficient_is_its_value_in_the_decoded_stream(layout):
    first, bits = streams(1)
    facts, near = read(Meanings(layout, first, CANVASES, COUNT), bits)
    middle = NEAR // 3 // 2
    for row, canvas in enumerate(CANVASES):
        for place in (40, 100, COUNT - 1):
            colour, down, across = facts[row, place, :3]
            order = layout.order(int(first[row]) % 128, canvas)
            means = layout.dequantize(bits[row, :place], order, canvas) / order.sigma
            value = means.reshape(3, *block_size(canvas))[colour, down, across]
            known = near[row, place].reshape(-1, 3)[middle, colour] / VALUE_STEPS
            assert known == pytest.approx(value, abs=0.5 / VALUE_STEPS + 1e-6)


def test_bits_to_come_change_nothing_that_is_told(layout):
    first, bits = streams(2)
    later = bits.copy()
    later[:, 90:] ^= 1
    for before, after in zip(
        read(Meanings(layout, first, CANVASES, COUNT), bits),
        read(Meanings(layout, first, CANVASES, COUNT), later),
        strict=True,
    ):
        assert np.array_equal(before[:, :91], after[:, :91])
        assert not np.array_equal(before[:, 91:], after[:, 91:])
