"""Radial spectra: where a wave shows, and up to which frequency a prefix has arrived."""

import numpy as np
import pytest

from benchmarks.radial import luma, radial_power
from benchmarks.spectrum_report import Spectra, arrived_up_to


@pytest.mark.parametrize("cycles", [3, 10, 40])
@pytest.mark.parametrize("is_vertical", [False, True])
def test_a_cosine_peaks_at_its_frequency(cycles: int, is_vertical: bool) -> None:
    wave = 128 + 50 * np.cos(2 * np.pi * cycles * np.arange(128) / 128 + 1)
    plane = np.tile(wave, (128, 1))
    power = radial_power(plane.T if is_vertical else plane)
    assert len(power) == 64
    assert int(np.argmax(power)) + 1 == cycles


def test_a_constant_has_no_power_at_any_frequency() -> None:
    assert radial_power(np.full((32, 48), 200.0)).max() == pytest.approx(0.0, abs=1e-9)


def test_luma_of_grey_is_grey() -> None:
    assert luma(np.full((2, 2, 3), 77, np.uint8)) == pytest.approx(np.full((2, 2), 77.0))


def test_a_perfect_prefix_has_all_power_and_all_of_it_right() -> None:
    power = np.random.default_rng(0).uniform(1, 2, 100)
    cycles, there, right = Spectra(power, power[None], np.zeros((1, 100))).pooled()
    assert there == pytest.approx(np.ones_like(there))
    assert right == pytest.approx(np.ones_like(right))
    assert cycles == sorted(cycles)
    assert arrived_up_to(cycles, there[0], 0.5) is None


def test_half_has_arrived_up_to_where_the_share_crosses_a_half() -> None:
    cycles = [1.0, 2.0, 4.0, 8.0]
    assert arrived_up_to(cycles, np.array([1.0, 0.75, 0.25, 0.0]), 0.5) == pytest.approx(2**1.5)
    assert arrived_up_to(cycles, np.array([0.2, 0.1, 0.0, 0.0]), 0.5) == 0.0
