"""Sliced Wasserstein distance: 0 for equal sets, growing with blur and with noise."""

import numpy as np
import pytest
from generated_pictures import picture as generated
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.pictures import Pixels
from benchmarks.sliced_wasserstein import TextureDistance, laplacian_pyramid, pyramid_sides_px

SIDE_PX = 64


@pytest.fixture(scope="module")
def originals() -> list[Pixels]:
    rng = np.random.default_rng(0)
    return [textured(generated(seed, SIDE_PX, SIDE_PX), rng) for seed in range(6)]


def textured(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return noisy(pixels, 8, rng)


def noisy(pixels: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    noise: NDArray[np.float64] = rng.normal(0, deviation, pixels.shape)
    return (pixels + noise).round().clip(0, 255).astype(np.uint8)


def blurred(pixels: Pixels, radius: float) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def mean(values: list[float]) -> float:
    return float(np.mean(values))


def test_equal_sets_have_distance_zero_at_every_level(originals: list[Pixels]) -> None:
    assert TextureDistance(originals).of(originals) == [0.0, 0.0, 0.0]


def test_the_distance_grows_with_blur(originals: list[Pixels]) -> None:
    distance = TextureDistance(originals)
    means = [mean(distance.of([blurred(one, radius) for one in originals])) for radius in (0.5, 1, 2, 4)]
    assert means == sorted(means)
    assert means[0] > 0


def test_the_distance_grows_with_noise(originals: list[Pixels]) -> None:
    distance, rng = TextureDistance(originals), np.random.default_rng(1)
    means = [mean(distance.of([noisy(one, level, rng) for one in originals])) for level in (2, 8, 32)]
    assert means == sorted(means)
    assert means[0] > 0


def test_blur_shows_most_where_the_detail_was(originals: list[Pixels]) -> None:
    fine, *_, coarse = TextureDistance(originals).of([blurred(one, 1) for one in originals])
    assert fine > 3 * coarse


def test_other_noise_of_the_same_kind_is_nearer_than_no_noise() -> None:
    flat = [np.full((SIDE_PX, SIDE_PX, 3), 128, np.uint8)] * 6
    rng = np.random.default_rng(0)
    rough, other = ([textured(one, rng) for one in flat] for _ in range(2))
    distance = TextureDistance(rough)
    assert distance.of(other)[0] < 0.2 * distance.of(flat)[0]


def test_the_same_seed_gives_the_same_distance(originals: list[Pixels]) -> None:
    soft = [blurred(one, 1) for one in originals]
    assert TextureDistance(originals, 3).of(soft) == TextureDistance(originals, 3).of(soft)
    assert TextureDistance(originals, 3).of(soft) != TextureDistance(originals, 4).of(soft)


def test_a_pyramid_ends_at_16_pixels_and_flat_pictures_fill_only_its_last_level() -> None:
    flat = np.full((128, 128, 3), 90, np.uint8)
    assert pyramid_sides_px(flat) == [128, 64, 32, 16]
    *details, rest = laplacian_pyramid(flat, 4)
    assert [level.shape[0] for level in details] == [128, 64, 32]
    assert rest == pytest.approx(np.full((16, 16, 3), 90.0))
    assert max(float(np.abs(level).max()) for level in details) < 1e-3
