"""Grain beside the refiner: it costs exactly the PSNR that was asked, and depends on nothing but its seed."""

import numpy as np
import pytest
from generated_pictures import picture

from benchmarks.noise_control import NoiseControl, expected_deviation, grain
from benchmarks.pictures import Picture
from benchmarks.scores import capped_psnr_db
from tokenizer import Size, TokenSequence
from tokenizer.distortion import DistortionCurve


@pytest.fixture(scope="module")
def control() -> NoiseControl:
    """Two pictures and decodes that are 10 grey levels off."""
    originals = [picture(seed, 48, 64).clip(20, 230) for seed in (1, 2)]
    pictures = [Picture(str(number), pixels, "") for number, pixels in enumerate(originals)]
    return NoiseControl(pictures, [pixels + np.uint8(10) for pixels in originals], [10.0, 20.0], seed=3)


def psnr_db(control: NoiseControl, decoded: list[np.ndarray]) -> float:
    pairs = zip(control._pictures, decoded, strict=True)
    return float(np.mean([capped_psnr_db(original.pixels, pixels) for original, pixels in pairs]))


@pytest.mark.parametrize("loss_db", [0.2, 1.0, 2.5])
def test_grain_brings_the_mean_psnr_to_what_is_asked(control: NoiseControl, loss_db: float) -> None:
    asked = psnr_db(control, control.with_share(0)) - loss_db
    assert psnr_db(control, control.at_psnr(asked)) == pytest.approx(asked, abs=0.02)


def test_a_refiner_that_costs_nothing_is_compared_with_fidelity(control: NoiseControl) -> None:
    for mine, fidelity in zip(control.at_psnr(99.0), control._fidelity, strict=True):
        assert np.array_equal(mine, fidelity)


def test_grain_is_in_proportion_to_the_expected_error(control: NoiseControl) -> None:
    noisy = zip(control.with_share(0.5), control._fidelity, strict=True)
    low, high = (np.std(pixels.astype(float) - fidelity) for pixels, fidelity in noisy)
    assert high == pytest.approx(2 * low, rel=0.1)


def test_grain_is_grey_smooth_and_decided_by_its_seed() -> None:
    first, again = (grain((32, 40, 3), np.random.default_rng((0, 1))) for _ in range(2))
    assert first.shape == (32, 40, 1) and np.array_equal(first, again)
    assert np.std(first) == pytest.approx(1)
    neighbours = np.corrcoef(first[:, :-1].ravel(), first[:, 1:].ravel())[0, 1]
    assert neighbours > 0.6


def test_the_expected_deviation_is_that_of_the_predicted_psnr() -> None:
    curve = DistortionCurve((1, 64), (20.0, 20.0))
    sequence = TokenSequence(bytes(32), Size(64, 64), "0011aabb", curve=curve)
    assert expected_deviation(sequence) == pytest.approx(25.5)
