"""The wavelet pyramid: orthonormal, exact both ways, and local."""

from __future__ import annotations

import numpy as np
import pytest

from tokenizer.wavelet import pyramid, split

BLOCKS = ((16, 16), (32, 32), (128, 128), (160, 96), (48, 64), (16, 1024))


def random_block(block: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((3, *block)).astype(np.float32)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_inverse_gives_back_what_went_in(block: tuple[int, int]) -> None:
    coefficients = random_block(block)
    tree = pyramid(block)
    assert np.abs(tree.inverse(tree.forward(coefficients)) - coefficients).max() < 1e-4


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_squared_error_is_the_same_on_both_sides(block: tuple[int, int]) -> None:
    coefficients = random_block(block)
    energy = np.square(coefficients).sum()
    assert np.square(pyramid(block).forward(coefficients)).sum() == pytest.approx(energy, rel=1e-4)


@pytest.mark.parametrize("half", (1, 2, 8, 24, 64))
def test_a_split_is_orthonormal(half: int) -> None:
    matrix = split(half).astype(np.float64)
    assert np.abs(matrix @ matrix.T - np.eye(2 * half)).max() < 1e-5


def test_bands_fill_the_vector_without_gap_or_overlap() -> None:
    tree = pyramid((160, 96))
    ends = [0, *(band.stop for band in tree.bands)]
    assert [band.start for band in tree.bands] == ends[:-1]
    assert ends[-1] == tree.size == 3 * 160 * 96


def test_a_constant_picture_is_one_number_a_colour() -> None:
    coefficients = np.zeros((3, 64, 64), np.float32)
    coefficients[:, 0, 0] = (1, 2, 3)
    flat = pyramid((64, 64)).forward(coefficients)
    assert np.count_nonzero(np.abs(flat) > 1e-5) == 3


def test_detail_of_one_place_lies_at_that_place() -> None:
    """Nine tenths of a small dot's energy in the finest band lie within three samples of it."""
    from tokenizer.spectral import dct_basis

    samples = np.zeros((3, 64, 64), np.float32)
    samples[0, 40, 20] = 1
    basis = dct_basis(64, 64)
    tree = pyramid((64, 64))
    finest = tree.views(tree.forward(basis @ samples @ basis.T))[-1][0]
    energy = np.square(finest).sum(0)
    near = energy[17:24, 7:14].sum()
    assert near > 0.9 * energy.sum()
