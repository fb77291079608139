"""Entropies with known answers, and codes that can only lose on other pictures."""

import numpy as np
import pytest

from benchmarks.bit_statistics import BitCounts, cross_cost_bits, entropy_bits
from benchmarks.token_entropy import corrected, cross_fitted, halved_cells
from tokenizer.spectral import BitOrder


def test_fair_bits_have_one_bit_each_even_where_few_are_counted() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (12, 4000)).astype(np.uint8)
    places = np.broadcast_to(np.arange(4000), bits.shape)
    assert corrected(bits, places).mean() == pytest.approx(1.0, abs=0.01)


def test_biased_bits_have_their_binary_entropy() -> None:
    bits = (np.random.default_rng(0).random((40, 4000)) < 0.11).astype(np.uint8)
    one_context = np.zeros(bits.shape, np.int64)
    assert corrected(bits, one_context).mean() == pytest.approx(0.5, abs=0.01)
    assert cross_fitted(bits, one_context).mean() == pytest.approx(0.5, abs=0.01)


def test_bits_that_never_change_carry_nothing() -> None:
    counts = BitCounts.of(np.ones((5, 3), np.uint8), np.tile(np.arange(3), (5, 1)), 4)
    assert counts.entropies().tolist() == [0.0, 0.0, 0.0, 0.0]


def test_a_code_with_too_many_contexts_costs_more_than_no_code() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (8, 2000)).astype(np.uint8)
    assert cross_fitted(bits, np.broadcast_to(np.arange(2000), bits.shape)).mean() > 1.02


def test_a_context_that_was_never_counted_costs_one_bit() -> None:
    nothing = BitCounts(np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert cross_cost_bits(nothing, np.array([0, 1], np.uint8), np.zeros(2, np.int64)).tolist() == [1.0, 1.0]


def test_the_entropy_of_a_symbol_is_corrected_but_never_above_its_values() -> None:
    assert entropy_bits(np.array([500, 500, 0, 0])) == pytest.approx(1.0, abs=0.002)
    assert entropy_bits(np.array([1, 1, 1, 1])) == 2.0
    drawn = np.bincount(np.random.default_rng(0).integers(0, 64, 300), minlength=64)
    assert entropy_bits(drawn) == pytest.approx(6.0, abs=0.03)


def test_a_bit_is_told_by_the_bits_of_its_coefficient_before_it() -> None:
    order = BitOrder(
        coefficient=np.array([0, 1, 0, 0], np.int32),
        plane=np.array([0, 0, 1, 2], np.int32),
        sigma=np.ones(2, np.float32),
        expected_mse=np.ones(2, np.float32),
    )
    # Coefficient 0 sends 1, 0, 1: it halves cell 1, then cell 0b11, then cell 0b110.
    assert halved_cells(order, np.array([1, 0, 0, 1], np.uint8)).tolist() == [1, 1, 0b11, 0b110]
