"""Products by parts are the product, and parts are as small as OpenBLAS wants them."""

import numpy as np
import pytest

from tokenizer.products import LEAST_ROWS, ONE_THREAD_MULTIPLICATIONS, _parts, one_thread_product

SHAPES = [
    ((128, 128), (3, 128, 128)),
    ((3, 128, 128), (128, 128)),
    ((3, 192, 160), (160, 96)),
    ((65_536, 3), (3, 3)),
    ((15, 192), (3, 192, 128)),
    ((512, 512), (3, 512, 512)),  # whole
    ((7, 2), (2, 5)),  # whole
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_make_the_product(left, right, dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(left).astype(dtype), rng.standard_normal(right).astype(dtype)
    product = one_thread_product(a, b)
    assert product.dtype == dtype
    np.testing.assert_allclose(product, a @ b, rtol=1e-3, atol=1e-3)


def test_left_of_any_strides():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((128, 128)).T, rng.standard_normal((128, 128))[::-1]
    np.testing.assert_allclose(one_thread_product(a, b), a @ b)


@pytest.mark.parametrize("m", [15, 96, 128, 160, 192, 65_536])
@pytest.mark.parametrize("columns", [9, 96 * 96, 128 * 128, 192 * 192])
def test_no_part_is_worth_a_second_thread(m, columns):
    parts = _parts(m, columns)
    assert m % parts == 0
    assert m // parts >= LEAST_ROWS
    assert m // parts * columns <= ONE_THREAD_MULTIPLICATIONS


def test_products_without_good_parts_stay_whole():
    assert _parts(512, 512 * 512) == 1
    assert _parts(127, 128 * 128) == 1  # a prime
