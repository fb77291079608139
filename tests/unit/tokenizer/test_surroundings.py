"""Sums and reaches over a pyramid's neighbours, against a plain walk through every coefficient."""

from __future__ import annotations

import numpy as np
import pytest

from tokenizer.surroundings import NUM_GROUPS, category_count, spread, sum_groups, surroundings
from tokenizer.wavelet import pyramid

BLOCKS = ((16, 16), (16, 48), (32, 32), (128, 128), (160, 112), (16, 256))


def values_of(tree):
    return np.random.default_rng(7).integers(1, 16_384, tree.size).astype(np.int32)


def shifted(plane, down, across):
    rows = np.clip(np.arange(plane.shape[-2]) + down, 0, plane.shape[-2] - 1)
    columns = np.clip(np.arange(plane.shape[-1]) + across, 0, plane.shape[-1] - 1)
    return plane[..., rows[:, None], columns]


def doubled(parent):
    return parent.repeat(2, -1).repeat(2, -2)


EDGES = ((0, 1), (0, -1), (1, 0), (-1, 0))
CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


@pytest.mark.parametrize("block", BLOCKS)
def test_groups_of_neighbours_are_summed(block):
    tree = pyramid(block)
    values, sums = values_of(tree), np.full((NUM_GROUPS, tree.size), -1, np.int32)
    sum_groups(surroundings(block).bands, values, sums)
    views = tree.views(values)
    for number, own in enumerate(views):
        turned = [np.roll(own, -step, axis=1) for step in (1, 2)] if own.ndim == 4 else [own, own]
        parents = views[number - 1] if number >= 2 else own
        around_parents = sum(shifted(parents, *step) for step in EDGES + CORNERS) // 2
        expected = (
            sum(shifted(own, *step) for step in EDGES),
            sum(shifted(own, *step) for step in CORNERS),
            doubled(parents) if number >= 2 else own,
            sum(turned),
            sum(np.roll(own, -step, axis=0) for step in (1, 2)),
            doubled(around_parents) if number >= 2 else around_parents,
        )
        for group in range(NUM_GROUPS):
            np.testing.assert_array_equal(tree.views(sums[group])[number], expected[group])


@pytest.mark.parametrize("block", BLOCKS)
def test_a_reach_is_the_largest_around_and_above(block):
    tree = pyramid(block)
    values, reach = values_of(tree), np.empty(tree.size, np.int32)
    spread(surroundings(block).bands, values, reach)
    above = None
    for number, own in enumerate(tree.views(values)):
        expected = np.max([own, *(shifted(own, *step) for step in EDGES)], axis=0)
        if number >= 2:
            expected = np.maximum(expected, doubled(above))
        np.testing.assert_array_equal(tree.views(reach)[number], expected)
        above = expected


@pytest.mark.parametrize("block", BLOCKS)
def test_categories_tell_depth_colour_and_diagonal_apart(block):
    category = surroundings(block).category
    assert len(category) == pyramid(block).size
    assert category.min() >= 0 and category.max() < category_count()
    cosines, *details = pyramid(block).views(category)
    for colour in range(3):
        assert len(np.unique(cosines[colour])) == 1
        for detail in details:
            across, down, both = detail[colour]
            assert (across == down).all() and (both == across + 1).all()
