"""Searching for a quality: what verify and exact promise where the predicted curve is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from tokenizer.distortion import DistortionCurve
from tokenizer.quality_search import exact_length, verified_length

AVAILABLE = 1024


@dataclass
class Truth:
    """A true curve that counts how often it is looked at: each look is a decode."""

    start_db: float
    db_per_octave: float
    roughness_db: float
    looked_at: list[int] = field(default_factory=list)

    def psnr_db(self, length: int) -> float:
        rough = self.roughness_db * math.sin(12.9 * length)
        return self.start_db + self.db_per_octave * math.log2(1 + length) + rough

    def measure(self, length: int) -> float:
        assert 1 <= length <= AVAILABLE
        self.looked_at.append(length)
        return self.psnr_db(length)


truths = st.builds(Truth, st.floats(8, 20), st.floats(0.5, 2), st.sampled_from([0.0, 0.02]))
errors_db = st.floats(-1.5, 1.5)
targets_db = st.floats(9, 36)


def predicted(truth: Truth, error_db: float, slope: float) -> DistortionCurve:
    lengths = (4, 32, 256, AVAILABLE)
    values = [truth.start_db + error_db + slope * truth.db_per_octave * math.log2(1 + n) for n in lengths]
    return DistortionCurve(lengths, tuple(values), {0.9: (0.3,) * 4})


@given(truths, errors_db, st.floats(0.7, 1.4), targets_db)
def test_exact_ends_where_the_target_is_met_and_one_token_less_misses(
    truth: Truth, error_db: float, slope: float, target_db: float
) -> None:
    length = exact_length(predicted(truth, error_db, slope), target_db, AVAILABLE, truth.measure)
    if truth.psnr_db(length) < target_db:
        assert length == AVAILABLE
    else:
        assert length == 1 or truth.psnr_db(length - 1) < target_db


@given(truths, errors_db, st.floats(0.7, 1.4), targets_db)
def test_exact_decodes_no_length_twice_and_few_in_all(
    truth: Truth, error_db: float, slope: float, target_db: float
) -> None:
    exact_length(predicted(truth, error_db, slope), target_db, AVAILABLE, truth.measure)
    assert len(truth.looked_at) == len(set(truth.looked_at)) <= 16


@given(truths, errors_db, st.floats(0.7, 1.4), targets_db)
def test_verify_meets_the_target_wherever_the_promise_does(
    truth: Truth, error_db: float, slope: float, target_db: float
) -> None:
    truth.roughness_db = 0.0
    curve = predicted(truth, error_db, slope)
    promised = curve.shortest_length(target_db, 0.9) or AVAILABLE
    length = verified_length(curve, target_db, promised, AVAILABLE, truth.measure)
    if truth.psnr_db(promised) >= target_db:
        assert truth.psnr_db(length) >= target_db


@given(truths, errors_db, st.floats(0.7, 1.4), targets_db)
def test_verify_spends_two_decodes_at_most(
    truth: Truth, error_db: float, slope: float, target_db: float
) -> None:
    verified_length(predicted(truth, error_db, slope), target_db, AVAILABLE, AVAILABLE, truth.measure)
    assert 1 <= len(truth.looked_at) <= 2


@given(truths, st.floats(-0.2, 0.2), st.floats(10, 24))
def test_verify_ends_near_the_shortest_length_where_the_slope_is_right(
    truth: Truth, error_db: float, target_db: float
) -> None:
    """Within the room that a step leaves: 0.03 dB of slope error and roughness."""
    truth.roughness_db = 0.0
    curve = predicted(truth, error_db, 1.0)
    promised = curve.shortest_length(target_db, 0.9) or AVAILABLE
    length = verified_length(curve, target_db, promised, AVAILABLE, truth.measure)
    assert length <= 4 or length == AVAILABLE or truth.psnr_db(length - 1) < target_db + 0.05


def test_a_target_out_of_reach_gives_all_tokens_after_one_decode() -> None:
    truth = Truth(10.0, 1.0, 0.0)
    curve = predicted(truth, 0.0, 1.0)
    assert verified_length(curve, 90.0, AVAILABLE, AVAILABLE, truth.measure) == AVAILABLE
    assert exact_length(curve, 90.0, AVAILABLE, truth.measure) == AVAILABLE
    assert truth.looked_at == [AVAILABLE, AVAILABLE]
