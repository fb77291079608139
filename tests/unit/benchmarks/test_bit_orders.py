"""The same bits in other orders: what can be used, and that the stream's own order is the best."""

import numpy as np
import pytest
from numpy.typing import NDArray
from numpy_codec import formula_tables

from benchmarks import bit_orders
from benchmarks.fixed_spectrum import fit_fixed_spectrum
from benchmarks.order import cosines_of_steps
from tokenizer.canvas import Size
from tokenizer.spectral import BITS_PER_TOKEN, SpectralLayout, block_size

CANVAS = Size(64, 64)


@pytest.fixture(scope="module")
def layout() -> SpectralLayout:
    return SpectralLayout(formula_tables())


def source(layout: SpectralLayout, seed: int, class_id: int = 0) -> NDArray[np.float32]:
    """Coefficients drawn from the spectrum of a class."""
    sigma = layout.order(class_id, CANVAS).sigma
    drawn = np.random.default_rng(seed).standard_normal(len(sigma)).astype(np.float32)
    return (drawn * sigma).reshape(3, *block_size(CANVAS))


def error(layout: SpectralLayout, seed: int, reorder: bit_orders.Reorder, length: int) -> float:
    coefficients = source(layout, seed)
    tokens = layout.encode(coefficients, CANVAS)
    order = layout.order(layout.class_of(tokens), CANVAS)
    positions = reorder(order, np.random.default_rng(seed))[: BITS_PER_TOKEN * (length - 1)]
    decoded = bit_orders.decode_bits(layout, tokens, positions, CANVAS)
    return float(np.square(coefficients - decoded).sum())


REORDERS = [
    bit_orders.random_tokens,
    bit_orders.reversed_tokens,
    bit_orders.random_bits,
    bit_orders.reversed_bits,
]


@pytest.mark.parametrize("length", [2, 24, 200, 512])
def test_the_bits_of_a_prefix_decode_to_what_the_layout_decodes(layout: SpectralLayout, length: int) -> None:
    tokens = layout.encode(source(layout, 0), CANVAS)
    decoded = bit_orders.decode_bits(layout, tokens, np.arange(BITS_PER_TOKEN * (length - 1)), CANVAS)
    assert np.array_equal(decoded, layout.decode(tokens[:length], CANVAS))


@pytest.mark.parametrize("reorder", REORDERS)
def test_every_order_holds_every_bit_once(layout: SpectralLayout, reorder: bit_orders.Reorder) -> None:
    order = layout.order(0, CANVAS)
    positions = reorder(order, np.random.default_rng(0))
    assert np.array_equal(np.sort(positions), np.arange(len(order.coefficient)))


@pytest.mark.parametrize("reorder", [bit_orders.random_bits, bit_orders.reversed_bits])
def test_bits_dealt_again_can_all_be_used_wherever_the_order_is_cut(
    layout: SpectralLayout, reorder: bit_orders.Reorder
) -> None:
    order = layout.order(0, CANVAS)
    positions = reorder(order, np.random.default_rng(0))
    for count in (1, 100, 1000):
        assert len(bit_orders.usable(order, positions[:count])) == count


def test_a_bit_without_its_coefficients_sign_is_dropped(layout: SpectralLayout) -> None:
    order = layout.order(0, CANVAS)
    later = np.flatnonzero(order.plane == 1)[:5]
    assert len(bit_orders.usable(order, later)) == 0


@pytest.mark.parametrize("reorder", REORDERS)
@pytest.mark.parametrize("length", [16, 64, 256])
def test_a_prefix_is_better_than_as_many_tokens_in_another_order(
    layout: SpectralLayout, reorder: bit_orders.Reorder, length: int
) -> None:
    prefix = sum(error(layout, seed, bit_orders.as_sent, length) for seed in range(4))
    assert prefix < sum(error(layout, seed, reorder, length) for seed in range(4))


def test_a_spectrum_fitted_to_one_kind_of_picture_codes_it_better_than_one_fitted_to_all(
    layout: SpectralLayout,
) -> None:
    kinds = [[source(layout, seed, class_id) for seed in range(4)] for class_id in range(3)]
    for_all = fit_fixed_spectrum(layout.tables, [(one, CANVAS) for kind in kinds for one in kind])
    for kind in kinds:
        for_kind = fit_fixed_spectrum(layout.tables, [(one, CANVAS) for one in kind])
        assert for_kind.tables.num_classes == 1
        nothing_sent = sum(float(np.square(one).sum()) for one in kind)
        assert total_error(for_kind, kind) < total_error(for_all, kind) < nothing_sent


def total_error(layout: SpectralLayout, pictures: list[NDArray[np.float32]]) -> float:
    decoded = [layout.decode(layout.encode(one, CANVAS)[:128], CANVAS) for one in pictures]
    return sum(float(np.square(a - b).sum()) for a, b in zip(pictures, decoded, strict=True))


def test_the_step_to_a_conditional_mean_is_orthogonal_to_what_it_leaves() -> None:
    rng = np.random.default_rng(0)
    original = rng.integers(60, 196, (64, 64, 3)).astype(np.uint8)
    grey = np.full_like(original, 128)
    halves = np.where(original >= 128, original[original >= 128].mean(), original[original < 128].mean())
    (right,) = cosines_of_steps(original, [grey, np.rint(halves).astype(np.uint8)])
    (short,) = cosines_of_steps(original, [grey, np.rint((halves + 128) / 2).astype(np.uint8)])
    assert abs(right) < 0.02
    assert short > 0.3
    assert cosines_of_steps(original, [grey, grey]) == [0.0]
