"""Prefix lengths and masks: any length is drawn, none outside the limits, and masks are prefixes."""

from __future__ import annotations

import pytest
import torch

from tokenizer.model.nested_dropout import keep_mask, sample_lengths


def lengths(count: int, seed: int = 0, **options: float) -> torch.Tensor:
    return sample_lengths(count, 2048, 8, torch.Generator().manual_seed(seed), **options)


def test_lengths_stay_within_their_limits() -> None:
    drawn = lengths(20_000)
    assert drawn.dtype == torch.int64
    assert drawn.min() == 8
    assert drawn.max() <= 2048


def test_the_same_generator_draws_the_same_lengths() -> None:
    assert torch.equal(lengths(50, seed=7), lengths(50, seed=7))
    assert not torch.equal(lengths(50, seed=7), lengths(50, seed=8))


def test_half_the_lengths_are_drawn_log_uniformly() -> None:
    """Below 128 of 8..2048 lie half of the log-uniform lengths and 6 % of the uniform ones."""
    for share, expected in ((0.0, 0.5), (1.0, 0.059), (0.5, 0.28)):
        below = (lengths(20_000, uniform_share=share) < 128).double().mean()
        assert float(below) == pytest.approx(expected, abs=0.02)


def test_one_possible_length_is_always_drawn() -> None:
    assert (sample_lengths(9, 5, 5, torch.Generator().manual_seed(0)) == 5).all()


def test_the_mask_keeps_the_first_tokens() -> None:
    mask = keep_mask(torch.tensor([0, 1, 3, 5]), 5)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [
        [False] * 5,
        [True] + [False] * 4,
        [True] * 3 + [False] * 2,
        [True] * 5,
    ]


def test_the_mask_of_a_shorter_prefix_lies_within_the_longer() -> None:
    drawn = lengths(40)
    mask, shorter = keep_mask(drawn, 2048), keep_mask(drawn - 3, 2048)
    assert (mask | shorter).equal(mask)
    assert mask.sum(1).equal(drawn)
