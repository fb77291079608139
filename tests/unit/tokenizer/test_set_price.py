"""A price from a histogram buys what the exact allocation buys, whatever the parts of the set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.allocation import GOALS, allocate
from tokenizer.canvas import Size
from tokenizer.distortion import DistortionCurve
from tokenizer.errors import InvalidBudget
from tokenizer.sequence import TokenSequence
from tokenizer.set_price import Demand, Price, Terms

LENGTHS = (16, 32, 64, 128, 256, 512)


def pictures(count: int, seed: int = 0) -> list[TokenSequence]:
    """Streams of 512 tokens whose predicted PSNR begins and rises differently."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        psnr_db = draw.uniform(12, 22) + np.cumsum(draw.uniform(0.2, 2.0, len(LENGTHS)))
        curve = DistortionCurve(LENGTHS, tuple(psnr_db))
        found.append(TokenSequence(bytes(512), Size(256, 256), "0011aabb", curve=curve))
    return found


def cut_all(sequences: list[TokenSequence], total_bytes: int, terms: Terms) -> list[TokenSequence]:
    price = Price.for_total(Demand.of(sequences, terms), total_bytes)
    shares = []
    for one in sequences:
        share, price = price.cut(one, terms)
        shares.append(share)
    return shares


def size_bytes(sequences: list[TokenSequence]) -> int:
    return sum(len(one.to_bytes()) for one in sequences)


@pytest.mark.parametrize("goal", GOALS)
def test_the_total_is_spent_to_the_byte_and_as_the_exact_allocation_does(goal):
    sequences = pictures(40)
    total = 40 * 120
    shares = cut_all(sequences, total, Terms(goal))
    exact = allocate(sequences, total, goal=goal)
    assert size_bytes(shares) == total
    # A bin is a percent of worth, and a piece is a sixteenth of an octave of length.
    differences = [abs(a.length - b.length) / b.length for a, b in zip(shares, exact, strict=True)]
    assert np.mean(differences) < 0.02


@given(total=st.integers(0, 25_000), min_bytes=st.integers(0, 100), seed=st.integers(0, 5))
def test_no_total_is_ever_exceeded_and_no_picture_falls_below_its_least(total, min_bytes, seed):
    sequences, terms = pictures(10, seed), Terms(min_bytes=min_bytes)
    try:
        shares = cut_all(sequences, total, terms)
    except InvalidBudget:
        assert total < 10 * max(min_bytes, 11)
        return
    assert size_bytes(shares) == min(total, size_bytes(sequences))
    assert all(len(one.to_bytes()) >= min_bytes for one in shares)


def test_parts_of_a_set_share_as_the_whole_does():
    sequences, terms = pictures(30), Terms(max_bytes=300)
    whole = Demand.of(sequences, terms)
    parts = Demand.sum(Demand.of(sequences[i : i + 7], terms) for i in range(0, 30, 7))
    assert Price.for_total(whole, 4000) == Price.for_total(parts, 4000)


def test_a_stream_without_a_curve_is_refused():
    with pytest.raises(InvalidBudget, match="without predicted quality"):
        Demand.of([TokenSequence(bytes(9), Size(8, 8), "0011aabb")], Terms())
