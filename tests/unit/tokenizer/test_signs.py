"""Odds of a sign: what is read around a coefficient, against a plain walk; mirrored pictures; both sides."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from generated_pictures import picture
from numpy_codec import analyse, formula_tables

from tokenizer.canvas import Size
from tokenizer.contexts import NUM_SIGN_CATEGORIES, NUM_TAPS, TAP_LIMIT, TAP_ONE, ContextModel
from tokenizer.embedded import new_state, threshold
from tokenizer.errors import ArtifactError
from tokenizer.range_coder import HALF, ONE
from tokenizer.range_form import RangeLayout
from tokenizer.signs import NO_CATEGORY, negative_odds, read_taps
from tokenizer.spectral import SpectralLayout
from tokenizer.wavelet import pyramid
from training.context_model import starting_tables

BLOCKS = ((16, 48), (32, 32), (64, 96))
PLANE = 5


def random_tables(hidden=5):
    rng = np.random.default_rng(1)
    return dataclasses.replace(
        starting_tables(),
        sign_first=rng.integers(-3000, 3000, (NUM_TAPS, hidden)).astype(np.int16),
        sign_bias=rng.integers(-9000, 9000, (NUM_SIGN_CATEGORIES, hidden)).astype(np.int32),
        sign_second=rng.integers(-900, 900, hidden).astype(np.int16),
        sign_shifts=np.asarray((6, 8), np.int32),
    )


def known(block, seed=0):
    """A state in which a third of all coefficients is found, and their signed values in 1/8 threshold."""
    tree, rng = pyramid(block), np.random.default_rng(seed)
    state = new_state(block, np.zeros(tree.size, np.int32), ContextModel.of(starting_tables()))
    state.is_found[:] = rng.random(tree.size) < 1 / 3
    state.is_negative[:] = rng.random(tree.size) < 1 / 2
    state.low[:] = threshold(PLANE) * 2.0 ** rng.integers(0, 3, tree.size)
    state.width[:] = state.low
    middle = (state.low + state.width / 2) / threshold(PLANE) * TAP_ONE
    values = np.where(state.is_found, np.minimum(np.floor(middle), TAP_LIMIT), 0)
    return tree, state, np.where(state.is_negative, -values, values).astype(np.int32)


def shifted(plane, down, across):
    padded = np.pad(plane, [(0, 0)] * (plane.ndim - 2) + [(1, 1), (1, 1)])
    return padded[..., 1 + down : 1 + down + plane.shape[-2], 1 + across : 1 + across + plane.shape[-1]]


def doubled(parent):
    return parent.repeat(2, -1).repeat(2, -2)


STEPS = ((-1, 0), (0, -1), (0, 0), (0, 1), (1, 0))


def expected_taps(own, above, turn):
    """i32[3, rows, columns, K] of all colours at once; `own` and `above` are [3, 3, rows, columns]."""
    others = [number for number in range(3) if number != turn]
    steps = [step[::-1] for step in STEPS] if turn == 1 else list(STEPS)
    taps = [shifted(own[:, turn], *step) for step in steps if step != (0, 0)]
    taps += [shifted(own[:, number], *step) for number in others for step in steps]
    taps += [np.roll(own[:, turn], -step, axis=0) for step in (1, 2)]
    taps += [np.zeros_like(taps[0]) if above is None else doubled(above[:, n]) for n in (turn, *others)]
    for step in steps:
        if step != (0, 0):
            taps.append(np.zeros_like(taps[0]) if above is None else doubled(shifted(above[:, turn], *step)))
    return np.stack(taps, axis=-1)


@pytest.mark.parametrize("block", BLOCKS)
def test_taps_are_the_signed_values_around(block):
    tree, state, values = known(block)
    taps = np.empty(NUM_TAPS, np.int32)
    cosines, *details = tree.views(values)
    assert read_taps(state, cosines.size - 1, PLANE, taps) == NO_CATEGORY
    seen = set()
    for number, (band, own) in enumerate(zip(tree.bands[1:], details, strict=True)):
        above = details[number - 1] if number else None
        for turn in range(3):
            expected = expected_taps(own, above, turn)
            for colour, row, column in np.ndindex(own.shape[0], *own.shape[2:]):
                place = np.ravel_multi_index((colour, turn, row, column), own.shape)
                category = read_taps(state, band.start + int(place), PLANE, taps)
                np.testing.assert_array_equal(taps, expected[colour, row, column])
                children = (column % 2, row % 2) if turn == 1 else (row % 2, column % 2)
                assert category == (colour * 2 + (turn == 2)) * 4 + children[0] * 2 + children[1]
                seen.add(category)
    assert seen == set(range(NUM_SIGN_CATEGORIES))


def test_a_picture_with_all_signs_turned_has_mirrored_odds():
    model, rng = ContextModel.of(random_tables()), np.random.default_rng(2)
    rows = rng.integers(-TAP_LIMIT, TAP_LIMIT + 1, (200, NUM_TAPS)).astype(np.int32)
    odds = np.asarray([[negative_odds(model, s * taps, 7) for s in (1, -1)] for taps in rows])
    # The shift of the logit rounds down on both sides: a 64th of an e-fold.
    np.testing.assert_allclose(odds.sum(1), ONE, atol=ONE / 64 / 4 + 1)
    assert odds.std() > ONE / 16


def test_nothing_known_and_no_network_mean_a_bit():
    model = ContextModel.of(random_tables())
    assert negative_odds(model, np.zeros(NUM_TAPS, np.int32), 3) == HALF
    assert negative_odds(model, np.ones(NUM_TAPS, np.int32), NO_CATEGORY) == HALF
    assert negative_odds(ContextModel.of(starting_tables()), np.ones(NUM_TAPS, np.int32), 3) == HALF


@pytest.mark.parametrize("canvas", [Size(64, 64), Size(48, 80), Size(96, 64)], ids=str)
def test_both_sides_agree_on_every_sign(canvas):
    layout = RangeLayout(SpectralLayout(formula_tables()), random_tables())
    coefficients, _, _ = analyse(picture(3, canvas.width_px, canvas.height_px), layout.spectral.tables)
    class_id = layout.spectral.choose_class(coefficients, canvas)
    coded = layout.encode(coefficients, coefficients, class_id, canvas, 600)
    plain = RangeLayout(SpectralLayout(formula_tables()), starting_tables())
    same = plain.encode(coefficients, coefficients, class_id, canvas, 600)
    # The same questions in the same order, at other prices.
    count = min(len(coded.trace.at), len(same.trace.at))
    np.testing.assert_array_equal(coded.trace.value[:count], same.trace.value[:count])
    assert coded.tokens != same.tokens
    for length in (2, 30, 200, len(coded.tokens)):
        state = layout.read(coded.tokens[:length], canvas)
        sent = np.searchsorted(coded.trace.bits, 8 * (length - 1) - 48)
        at, value = coded.trace.at[:sent], coded.trace.value[:sent]
        assert state.is_found[at].all()
        np.testing.assert_array_equal(state.is_negative[at], value < 0)


def test_tables_of_wrong_shapes_are_refused():
    with pytest.raises(ArtifactError, match="sign_bias"):
        dataclasses.replace(random_tables(), sign_bias=np.zeros((1, 5), np.int32))
