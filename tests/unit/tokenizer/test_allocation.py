"""One total for a set: spent to the byte, by slope, and more of it never takes from anybody."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.allocation import GOALS, Goal, allocate
from tokenizer.canvas import Size
from tokenizer.distortion import DistortionCurve
from tokenizer.errors import InvalidBudget
from tokenizer.sequence import TokenSequence

HEADER_BYTES = 10
LENGTHS = (4, 16, 64, 256, 1024)


def stream(psnr_db: tuple[float, ...], tokens: int = 1024) -> TokenSequence:
    return TokenSequence(
        bytes(tokens), Size(256, 256), "0011aabb", curve=DistortionCurve(LENGTHS[: len(psnr_db)], psnr_db)
    )


@st.composite
def streams(draw: st.DrawFn) -> TokenSequence:
    start = draw(st.floats(8, 30))
    rises = draw(st.lists(st.floats(0, 8), min_size=4, max_size=4))
    psnr_db = tuple(start + sum(rises[:i]) for i in range(5))
    return stream(psnr_db, draw(st.integers(1, 1024)))


sets = st.lists(streams(), min_size=1, max_size=6)
goals = st.sampled_from(GOALS)


def size_bytes(cut: list[TokenSequence]) -> list[int]:
    return [len(one.to_bytes()) for one in cut]


@given(sets, st.integers(0, 5000), goals, st.integers(0, 200), st.integers(0, 900))
def test_the_total_is_spent_to_the_byte_and_never_exceeded(
    wholes: list[TokenSequence], spare: int, goal: Goal, min_bytes: int, above_min: int
) -> None:
    max_bytes = max(HEADER_BYTES + 1, min_bytes) + above_min
    longest = [min(one.length + HEADER_BYTES, max_bytes) for one in wholes]
    least = [min(most, max(HEADER_BYTES + 1, min_bytes)) for most in longest]
    cut = allocate(wholes, sum(least) + spare, goal=goal, min_bytes=min_bytes, max_bytes=max_bytes)
    assert sum(size_bytes(cut)) == min(sum(least) + spare, sum(longest))
    for one, low, high in zip(size_bytes(cut), least, longest, strict=True):
        assert low <= one <= high


@given(sets, st.integers(0, 4000), st.integers(0, 2000), goals)
def test_a_larger_total_never_gives_a_picture_fewer_bytes(
    wholes: list[TokenSequence], spare: int, more: int, goal: Goal
) -> None:
    least = len(wholes) * (HEADER_BYTES + 1)
    small, large = (allocate(wholes, least + total, goal=goal) for total in (spare, spare + more))
    assert all(a.length <= b.length for a, b in zip(small, large, strict=True))


@given(sets, st.integers(0, 4000), goals)
def test_bare_streams_share_what_headers_would_take(
    wholes: list[TokenSequence], spare: int, goal: Goal
) -> None:
    total = len(wholes) * (HEADER_BYTES + 1) + spare
    bare = allocate(wholes, total - len(wholes) * HEADER_BYTES, goal=goal, bare=True)
    assert bare == allocate(wholes, total, goal=goal)


@given(streams(), st.integers(2, 5), st.integers(0, 4000), goals)
def test_equal_pictures_get_equal_quality(whole: TokenSequence, count: int, spare: int, goal: Goal) -> None:
    """Up to one piece: the last one is bought in part, and ties go to the first picture."""
    cut = allocate([whole] * count, count * (HEADER_BYTES + 1) + spare, goal=goal)
    lengths = [one.length for one in cut]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) <= 3


def mean_mse(wholes: list[TokenSequence], lengths: tuple[int, ...]) -> float:
    curves = [one.curve for one in wholes]
    return sum(10 ** (-c.psnr_db_at(n) / 10) for c, n in zip(curves, lengths, strict=True) if c)


def test_equal_slopes_are_as_good_as_every_other_split() -> None:
    """Against all splits of 300 tokens among three pictures, 4 at a time."""
    wholes = [stream((14, 17, 20, 23, 26)), stream((20, 22, 24, 26, 28)), stream((11, 12, 13, 14, 15))]
    cut = allocate(wholes, 300, bare=True)
    splits = [(a, b, 300 - a - b) for a, b in product(range(4, 293, 4), repeat=2) if a + b <= 296]
    best = min(mean_mse(wholes, split) for split in splits)
    found = mean_mse(wholes, tuple(one.length for one in cut))
    assert found <= best * 1.001


def test_the_goal_worst_makes_all_pictures_equally_good() -> None:
    wholes = [stream((14, 17, 20, 23, 26)), stream((20, 22, 24, 26, 28)), stream((11, 14, 18, 22, 25))]
    cut = allocate(wholes, 900, goal="worst", bare=True)
    qualities = [one.predicted_psnr_db or 0.0 for one in cut]
    assert max(qualities) - min(qualities) < 0.15


def test_a_picture_that_gains_nothing_is_left_at_the_first_length_that_is_predicted() -> None:
    flat, rising = stream((30,) * 5), stream((14, 17, 20, 23, 26))
    assert [one.length for one in allocate([flat, rising], 502, bare=True)] == [LENGTHS[0], 502 - LENGTHS[0]]


def test_no_pictures_take_nothing() -> None:
    assert allocate([], 100) == []


def test_a_total_that_cannot_hold_a_token_of_each_is_refused() -> None:
    with pytest.raises(InvalidBudget, match="the least they take is 22"):
        allocate([stream((20.0,))] * 2, 21)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": "best"}, "goal must be one of mse, psnr, worst"),
        ({"min_bytes": -1}, "cannot take -1"),
        ({"min_bytes": 50, "max_bytes": 40}, "cannot take 50 bytes at least and 40 at most"),
        ({"max_bytes": 10}, "holds no token"),
    ],
)
def test_nonsense_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InvalidBudget, match=message):
        allocate([stream((20.0,))], 100, **options)


def test_streams_without_predicted_quality_are_refused() -> None:
    with pytest.raises(InvalidBudget, match="without predicted quality"):
        allocate([TokenSequence(bytes(9), Size(8, 8), "0011aabb")], 100)
