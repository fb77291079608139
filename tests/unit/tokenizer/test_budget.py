"""Budgets: exactly one limit, kept to the byte, and a larger one never gives fewer tokens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.budget import TokenBudget, choose_length
from tokenizer.canvas import Size
from tokenizer.distortion import DistortionCurve
from tokenizer.errors import InvalidBudget
from tokenizer.sequence import TokenSequence

SOURCE = Size(640, 480)
CURVE = DistortionCurve((16, 64, 256), (18.0, 20.0, 22.0), {0.5: (0.0,) * 3, 0.9: (0.5,) * 3})
WHOLE = TokenSequence(bytes(2048), SOURCE, "0011aabb")


def length_for(budget: TokenBudget | None, available_tokens: int = 2048) -> int:
    return choose_length(
        budget,
        available_tokens=available_tokens,
        header_size_bytes=10,
        source_area_px=SOURCE.area_px,
        curve=CURVE,
    )


LIMITS = {
    "max_tokens": st.integers(1, 4000),
    "max_bytes": st.integers(11, 4000),
    "bits_per_pixel": st.floats(0.001, 5),
    "min_psnr_db": st.floats(0.1, 40),
}


@pytest.mark.parametrize("name", LIMITS)
@given(data=st.data())
def test_a_larger_budget_never_gives_fewer_tokens(name: str, data: st.DataObject) -> None:
    small, large = sorted((data.draw(LIMITS[name]), data.draw(LIMITS[name])))
    assert length_for(TokenBudget(**{name: small})) <= length_for(TokenBudget(**{name: large}))


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(15, 25))
def test_more_coverage_never_gives_fewer_tokens(a: float, b: float, target_db: float) -> None:
    low, high = sorted((a, b))
    lengths = [length_for(TokenBudget(min_psnr_db=target_db, coverage=c)) for c in (low, high)]
    assert lengths[0] <= lengths[1]


@given(st.integers(11, 4000))
def test_bytes_count_the_header(max_bytes: int) -> None:
    cut = WHOLE.prefix(length_for(TokenBudget(max_bytes=max_bytes)))
    assert len(cut.to_bytes()) == min(max_bytes, 10 + 2048)


@given(st.floats(0.001, 5))
def test_bits_per_pixel_count_the_header(bits_per_pixel: float) -> None:
    cut = WHOLE.prefix(length_for(TokenBudget(bits_per_pixel=bits_per_pixel)))
    allowed_bits = bits_per_pixel * SOURCE.area_px
    assert 8 * len(cut.to_bytes()) <= allowed_bits
    assert cut.length == 2048 or 8 * (len(cut.to_bytes()) + 1) > allowed_bits


def test_max_tokens_does_not_count_the_header() -> None:
    assert length_for(TokenBudget(max_tokens=24)) == 24


def test_without_a_budget_every_token_is_kept() -> None:
    assert length_for(None) == 2048


@pytest.mark.parametrize("budget", [TokenBudget(max_tokens=9999), TokenBudget(max_bytes=9999)])
def test_no_budget_gives_more_tokens_than_there_are(budget: TokenBudget) -> None:
    assert length_for(budget, available_tokens=100) == 100


def test_quality_is_asked_with_its_margin() -> None:
    assert length_for(TokenBudget(min_psnr_db=20.0, coverage=0.5)) == 64
    assert length_for(TokenBudget(min_psnr_db=19.5, coverage=0.9)) == 64


def test_a_quality_out_of_reach_gives_every_token() -> None:
    assert length_for(TokenBudget(min_psnr_db=50.0)) == 2048


def test_a_quality_asked_of_a_model_without_curve_is_refused() -> None:
    with pytest.raises(InvalidBudget, match="predicts no quality"):
        choose_length(
            TokenBudget(min_psnr_db=20.0),
            available_tokens=9,
            header_size_bytes=10,
            source_area_px=9,
            curve=None,
        )


@pytest.mark.parametrize("budget", [TokenBudget(max_bytes=10), TokenBudget(bits_per_pixel=1e-6)])
def test_a_budget_that_holds_no_token_is_refused(budget: TokenBudget) -> None:
    with pytest.raises(InvalidBudget, match="smallest stream has 11"):
        length_for(budget)


def test_a_budget_has_exactly_one_limit() -> None:
    with pytest.raises(InvalidBudget, match="got none"):
        TokenBudget()
    with pytest.raises(InvalidBudget, match="got max_tokens, bits_per_pixel"):
        TokenBudget(max_tokens=1, bits_per_pixel=0.5)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "8", 1 + 2j])
def test_nonsense_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidBudget, match=name):
        TokenBudget(**{name: value})


@pytest.mark.parametrize("name", ["max_tokens", "max_bytes"])
def test_half_a_token_is_refused(name: str) -> None:
    with pytest.raises(InvalidBudget, match="whole number"):
        TokenBudget(**{name: 12.5})


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_a_coverage_that_is_no_share_is_refused(coverage: float) -> None:
    with pytest.raises(InvalidBudget, match="coverage"):
        TokenBudget(min_psnr_db=20.0, coverage=coverage)


def test_a_mode_belongs_to_a_quality() -> None:
    assert TokenBudget(min_psnr_db=20.0, mode="exact").mode == "exact"
    with pytest.raises(InvalidBudget, match="mode verify needs min_psnr_db"):
        TokenBudget(max_bytes=100, mode="verify")


@pytest.mark.parametrize("mode", ["slow", "", None, 1])
def test_an_unknown_mode_is_refused(mode: object) -> None:
    with pytest.raises(InvalidBudget, match="one of fast, verify, exact"):
        TokenBudget(min_psnr_db=20.0, mode=mode)  # type: ignore[arg-type]
