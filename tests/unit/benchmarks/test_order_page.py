"""What an order run says: explained variance, falls, gains per byte."""

import numpy as np
import pytest

from benchmarks.order_report import NETWORK, PREFIX, Found, explained, falls, gains_per_byte
from benchmarks.pictures import Picture
from benchmarks.scores import BYTE_COUNTS, pixel_variance
from tokenizer.quality import mse

STEPS = len(BYTE_COUNTS)


def found(errors: list[float]) -> Found:
    return Found("p", {NETWORK: errors, PREFIX: errors}, {}, {})


def test_the_original_explains_all_and_its_mean_colour_nothing(picture: Picture) -> None:
    mean = np.broadcast_to(picture.pixels.mean(axis=(0, 1)).round().astype(np.uint8), picture.pixels.shape)
    errors = [mse(picture.pixels, mean)] * (STEPS - 1) + [mse(picture.pixels, picture.pixels)]
    variance = pixel_variance([picture]).about_own_mean
    shares = explained([found(errors)], [picture], variance, PREFIX)
    assert shares[0] == pytest.approx(0.0, abs=1e-3)
    assert shares[-1] == 1.0


def test_variance_about_the_common_mean_counts_how_pictures_differ_in_colour() -> None:
    black, grey = (Picture(str(value), np.full((4, 4, 3), value, np.uint8), str(value)) for value in (0, 100))
    variance = pixel_variance([black, grey])
    assert variance.about_own_mean == 0.0
    assert variance.about_common_mean == pytest.approx(50.0**2)


def test_a_large_picture_counts_by_its_pixels() -> None:
    small = Picture("small", np.full((2, 2, 3), 0, np.uint8), "s")
    large = Picture("large", np.full((6, 2, 3), 100, np.uint8), "l")
    assert pixel_variance([small, large]).about_common_mean == pytest.approx(0.25 * 75**2 + 0.75 * 25**2)


def test_an_error_that_grows_is_a_fall() -> None:
    errors = [100.0 - step for step in range(STEPS)]
    assert falls([found(errors)], PREFIX).share_not_falling == 1.0
    errors[5] = 99.0
    assert falls([found(errors)], PREFIX).pairs_not_falling == STEPS - 2


def test_gains_are_told_per_byte() -> None:
    shares = [count / 4096 for count in BYTE_COUNTS]
    assert gains_per_byte(shares) == pytest.approx([1 / 4096] * (STEPS - 1))
