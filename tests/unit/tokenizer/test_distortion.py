"""The distortion curve: never falls, and its shortest length is really the shortest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.distortion import DistortionCurve

CURVE = DistortionCurve(
    (16, 64, 256),
    (18.0, 20.0, 22.0),
    {0.5: (0.0, 0.0, 0.0), 0.9: (0.1, 0.3, 0.5), 0.95: (0.2, 0.6, 0.75)},
)


@st.composite
def curves(draw: st.DrawFn) -> DistortionCurve:
    lengths = sorted(draw(st.sets(st.integers(1, 3000), min_size=1, max_size=8)))
    psnr = st.floats(5, 60, allow_nan=False)
    values = sorted(draw(st.lists(psnr, min_size=len(lengths), max_size=len(lengths))))
    margins = draw(st.lists(st.floats(-0.5, 2), min_size=len(lengths), max_size=len(lengths)))
    return DistortionCurve(tuple(lengths), tuple(values), {0.9: tuple(margins)})


@given(curves(), st.integers(0, 3500), st.integers(0, 3500))
def test_more_tokens_are_never_predicted_worse(curve: DistortionCurve, a: int, b: int) -> None:
    short, long = sorted((a, b))
    assert curve.psnr_db_at(short) <= curve.psnr_db_at(long) + 1e-9


@given(curves(), st.floats(0, 65))
def test_the_shortest_length_reaches_the_target_and_one_less_does_not(
    curve: DistortionCurve, target_db: float
) -> None:
    length = curve.shortest_length(target_db, coverage=0.9)
    if length is None:
        assert all(curve.lower_bound_db(known, 0.9) < target_db for known in curve.lengths)
        return
    assert curve.lower_bound_db(length, 0.9) >= target_db
    if length > curve.lengths[0]:
        assert curve.lower_bound_db(length - 1, 0.9) < target_db


@given(curves(), st.floats(0, 65), st.floats(0, 65))
def test_a_higher_target_never_needs_fewer_tokens(curve: DistortionCurve, a: float, b: float) -> None:
    low, high = (curve.shortest_length(target, 0.9) for target in sorted((a, b)))
    assert high is None or (low is not None and low <= high)


def test_the_curve_is_exact_at_its_own_lengths() -> None:
    assert [CURVE.psnr_db_at(length) for length in CURVE.lengths] == list(CURVE.psnr_db)


def test_beyond_its_ends_the_curve_is_flat() -> None:
    assert CURVE.psnr_db_at(0) == 18.0
    assert CURVE.psnr_db_at(10_000) == 22.0


def test_a_coverage_takes_the_next_margin_that_was_calibrated() -> None:
    margins = [CURVE.margin_at(coverage, length=256) for coverage in (0.4, 0.9, 0.91, 0.99)]
    assert margins == [0.0, 0.5, 0.75, 0.75]


def test_margins_are_those_of_the_length() -> None:
    assert [CURVE.margin_at(0.9, length) for length in (4, 16, 64, 256, 30_000)] == [0.1, 0.1, 0.3, 0.5, 0.5]
    assert 0.1 < CURVE.margin_at(0.9, 32) < 0.3


def test_no_coverage_means_the_prediction_itself() -> None:
    assert CURVE.lower_bound_db(64, None) == 20.0
    assert CURVE.shortest_length(20.0, None) == 64


def test_without_calibration_there_is_no_margin() -> None:
    assert DistortionCurve((1,), (9.0,)).margin_at(0.9, 64) == 0.0


@pytest.mark.parametrize(
    ("lengths", "psnr_db", "message"),
    [
        ((), (), "at least one"),
        ((1, 2), (3.0,), "one PSNR per length"),
        ((2, 2), (3.0, 4.0), "must increase"),
        ((1, 2), (4.0, 3.0), "must not fall"),
    ],
)
def test_a_curve_that_makes_no_sense_is_refused(lengths: tuple, psnr_db: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistortionCurve(lengths, psnr_db)


def test_margins_for_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one margin per length"):
        DistortionCurve((1, 2), (3.0, 4.0), {0.9: (0.1,)})
