"""The fit from statistics: finite on few, small and odd pictures, and a codec that works at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from generated_pictures import picture
from numpy_codec import analyse

from tokenizer.canvas import Size
from tokenizer.spectral import SpectralLayout, SpectralTables
from training.linear_codec import LinearCodecConfig, default_cells, fit_colour, fit_linear_codec

Batches = Callable[[], Iterator[np.ndarray]]
CONFIG = LinearCodecConfig(num_classes=3, num_iterations=3, num_planes=6)


def batches_of(pictures: np.ndarray) -> Batches:
    return lambda: iter([pictures[:5], pictures[5:]] if len(pictures) > 5 else [pictures])


def generated(count: int, canvas: Size) -> np.ndarray:
    return np.stack([picture(seed, canvas.width_px, canvas.height_px) for seed in range(count)])


def assert_usable(tables: SpectralTables) -> None:
    for name in tables.__slots__:
        assert np.isfinite(np.asarray(getattr(tables, name), np.float64)).all(), name
    np.testing.assert_allclose(tables.colour @ tables.colour.T, np.eye(3), atol=1e-5)
    assert (np.diff(tables.gain.astype(int), axis=1) < 0).all()
    assert (np.diff(tables.thresholds) > 0).all()
    assert not tables.reconstruction[:, 1].any()


@pytest.mark.parametrize("canvas", [Size(64, 64), Size(32, 96), Size(16, 16)], ids=str)
def test_a_fit_on_few_small_pictures_is_finite(canvas: Size) -> None:
    """Small canvases lack the finest bands, and the tables must still hold for any canvas."""
    tables = fit_linear_codec(batches_of(generated(9, canvas)), CONFIG, canvas)
    assert_usable(tables)
    layout, large = SpectralLayout(tables), Size(256, 256)
    coefficients, _, _ = analyse(picture(1, 256, 256), tables)
    assert np.isfinite(layout.decode(layout.encode(coefficients, large), large)).all()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_fit_on_flat_pictures_is_finite(value: int) -> None:
    tables = fit_linear_codec(batches_of(np.full((6, 32, 32, 3), value, np.uint8)), CONFIG, Size(32, 32))
    assert_usable(tables)
    assert tables.mean_rgb == pytest.approx([value] * 3)


def test_a_fit_on_grey_pictures_has_three_colour_axes() -> None:
    grey = np.repeat(generated(8, Size(32, 32))[..., :1], 3, axis=3)
    assert_usable(fit_linear_codec(batches_of(grey), CONFIG, Size(32, 32)))


def test_more_classes_than_pictures_is_finite() -> None:
    tables = fit_linear_codec(batches_of(generated(2, Size(32, 32))), CONFIG, Size(32, 32))
    assert_usable(tables)


def test_the_fit_is_deterministic() -> None:
    canvas = Size(32, 32)
    first, second = (fit_linear_codec(batches_of(generated(8, canvas)), CONFIG, canvas) for _ in range(2))
    assert all(np.array_equal(getattr(first, n), getattr(second, n)) for n in first.__slots__)


def test_a_fitted_codec_codes_pictures_that_it_has_not_seen() -> None:
    canvas = Size(64, 64)
    layout = SpectralLayout(fit_linear_codec(batches_of(generated(30, canvas)), CONFIG, canvas))
    psnr = []
    for seed in range(100, 106):
        coefficients, energy, _ = analyse(picture(seed, 64, 64), layout.tables)
        class_id = layout.choose_class(coefficients, canvas)
        cells = layout.cells(coefficients, class_id, canvas)
        mse = layout.distortion(cells, coefficients, energy, class_id, canvas, [0, 32, 256, 2048])
        psnr.append(10 * np.log10(255**2 / mse))
    mean = np.mean(psnr, axis=0)
    # Nothing sent, 0.06, 0.5 and 4 bits per pixel.
    assert (np.diff(mean) > 3).all()


def test_colour_axes_come_by_falling_variance() -> None:
    pictures = generated(10, Size(64, 64))
    mean, colour = fit_colour(batches_of(pictures))
    sampled = pictures[:, ::8, ::8].reshape(-1, 3)
    np.testing.assert_allclose(mean, sampled.mean(0), rtol=1e-5)
    variance = ((sampled - mean) @ colour.T).var(0)
    assert variance[0] >= variance[1] >= variance[2]
    assert colour[0].sum() > 0


def test_every_cell_middle_lies_in_its_cell() -> None:
    thresholds, middles = default_cells(5)
    for planes in range(1, 6):
        borders = thresholds[2 ** (5 - planes) - 1 :: 2 ** (5 - planes)]
        cells = np.searchsorted(borders, middles[2**planes : 2 ** (planes + 1)])
        assert cells.tolist() == list(range(2**planes))


@pytest.mark.parametrize("num_classes", [0, 257])
def test_a_class_must_fit_its_byte(num_classes: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.256 classes"):
        LinearCodecConfig(num_classes=num_classes)
