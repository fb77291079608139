"""Picture quality measures against their definitions written out slowly, and facts that always hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.quality import MS_SSIM_MIN_SIDE_PX, bits_per_pixel, ms_ssim, psnr_db, ssim


def textured(height_px: int, width_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth random picture: noise blurred by neighbours, stretched to 0..255."""
    noise = np.random.default_rng(seed).normal(size=(height_px, width_px, 3))
    for axis in (0, 1):
        for shift in (1, 2, 4, 8):
            noise = noise + np.roll(noise, shift, axis)
    low, high = noise.min(), noise.max()
    return ((noise - low) / (high - low) * 255).astype(np.uint8)


def noisy(picture: NDArray[np.uint8], sigma: float, seed: int = 1) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(scale=sigma, size=picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def window_2d() -> NDArray[np.float64]:
    taps = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
    window = np.outer(taps, taps)
    return window / window.sum()


def slow_terms(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """SSIM and contrast-structure at every window of one plane, one window after the other."""
    window, similarity, contrast = window_2d(), [], []
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            u, v = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_u, mean_v = (window * u).sum(), (window * v).sum()
            variance_u = (window * (u - mean_u) ** 2).sum()
            variance_v = (window * (v - mean_v) ** 2).sum()
            covariance = (window * (u - mean_u) * (v - mean_v)).sum()
            contrast.append((2 * covariance + c2) / (variance_u + variance_v + c2))
            similarity.append((2 * mean_u * mean_v + c1) / (mean_u**2 + mean_v**2 + c1) * contrast[-1])
    return similarity, contrast


def slow_halve(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """2x2 means at stride 2; torch pads an odd side by one zero on both ends and drops what is left over."""
    height_px, width_px = plane.shape
    padded = np.zeros((height_px + 2, width_px + 2))
    padded[1:-1, 1:-1] = plane
    top, left = 1 - height_px % 2, 1 - width_px % 2
    rows, columns = (height_px + 1) // 2, (width_px + 1) // 2
    return np.array(
        [
            [
                padded[top + 2 * r : top + 2 * r + 2, left + 2 * c : left + 2 * c + 2].mean()
                for c in range(columns)
            ]
            for r in range(rows)
        ]
    )


def slow_ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    per_channel = []
    for channel in range(a.shape[2]):
        x, y = a[..., channel].astype(float), b[..., channel].astype(float)
        product = 1.0
        for weight in (0.0448, 0.2856, 0.3001, 0.2363):
            product *= max(0.0, float(np.mean(slow_terms(x, y)[1]))) ** weight
            x, y = slow_halve(x), slow_halve(y)
        product *= max(0.0, float(np.mean(slow_terms(x, y)[0]))) ** 0.1333
        per_channel.append(product)
    return float(np.mean(per_channel))


def test_psnr_is_ten_log_of_peak_over_mean_squared_error() -> None:
    a = np.zeros((4, 5, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 60
    assert psnr_db(a, b) == pytest.approx(10 * math.log10(255**2 / (60**2 / 60)))


def test_psnr_counts_every_row_of_a_tall_picture_once() -> None:
    a, b = textured(700, 9), noisy(textured(700, 9), 10)
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    assert psnr_db(a, b) == pytest.approx(10 * math.log10(255**2 / error), rel=1e-12)


def test_psnr_does_not_wrap_around_in_uint8() -> None:
    black, white = np.zeros((3, 3, 3), np.uint8), np.full((3, 3, 3), 255, np.uint8)
    assert psnr_db(black, white) == pytest.approx(0.0)


def test_equal_pictures_have_infinite_psnr_and_similarity_one() -> None:
    picture = textured(MS_SSIM_MIN_SIDE_PX, MS_SSIM_MIN_SIDE_PX)
    assert psnr_db(picture, picture) == math.inf
    assert ssim(picture, picture) == pytest.approx(1.0)
    assert ms_ssim(picture, picture) == pytest.approx(1.0)


def test_ssim_agrees_with_its_definition_window_by_window() -> None:
    a = textured(24, 31)
    b = noisy(a, 20)
    expected = np.mean(
        [np.mean(slow_terms(a[..., c].astype(float), b[..., c].astype(float))[0]) for c in range(3)]
    )
    assert ssim(a, b) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", [(161, 166), (164, 163)])
def test_ms_ssim_agrees_with_its_definition_also_for_odd_sides(shape: tuple[int, int]) -> None:
    a = textured(*shape)[..., :1]
    b = noisy(a, 40)
    assert ms_ssim(a, b) == pytest.approx(slow_ms_ssim(a, b), abs=1e-9)


def test_ms_ssim_of_opposite_pictures_is_zero_and_not_complex() -> None:
    picture = textured(176, 176)
    assert ms_ssim(picture, 255 - picture) == pytest.approx(0.0, abs=1e-3)


@given(sigma=st.floats(1, 30), more=st.floats(1.5, 4), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_more_noise_lowers_every_measure(sigma: float, more: float, seed: int) -> None:
    picture = textured(176, 180, seed)
    mild, strong = noisy(picture, sigma), noisy(picture, sigma * more)
    for measure in (psnr_db, ssim, ms_ssim):
        assert measure(picture, mild) > measure(picture, strong)


def test_all_measures_are_symmetric() -> None:
    a = textured(170, 165)
    b = noisy(a, 15)
    for measure in (psnr_db, ssim, ms_ssim):
        assert measure(a, b) == pytest.approx(measure(b, a), rel=1e-12)


@pytest.mark.parametrize("measure", [psnr_db, ssim, ms_ssim])
def test_pictures_that_cannot_be_compared_are_refused(measure: object) -> None:
    assert callable(measure)
    picture = textured(176, 176)
    for other in (picture[:-1], picture.astype(np.float32), picture[..., 0]):
        with pytest.raises(ValueError, match="picture"):
            measure(picture, other)


def test_pictures_smaller_than_the_window_are_refused_by_name_of_the_limit() -> None:
    with pytest.raises(ValueError, match="at least 11 pixels, got 10x20"):
        ssim(textured(20, 10), textured(20, 10))
    with pytest.raises(ValueError, match="at least 161 pixels, got 160x200"):
        ms_ssim(textured(200, 160), textured(200, 160))


def test_bits_per_pixel_counts_eight_bits_per_byte() -> None:
    assert bits_per_pixel(100, Size(40, 20)) == 1.0
