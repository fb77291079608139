"""The modes of a quality budget, with a real model: what a caller measures is what was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from generated_pictures import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tokenizer import ImageTokenizer, TokenBudget, TokenSequence
from tokenizer.budget import Mode
from tokenizer.quality import psnr_db

# Another size than the canvas: quality is meant at the source's own size.
SIDES_PX = (72, 57)


def quality_db(tokenizer: ImageTokenizer, pixels: np.ndarray, sequence: TokenSequence) -> float:
    (decoded,) = tokenizer.decode([sequence])
    return psnr_db(pixels, decoded)


@settings(max_examples=10)
@given(seed=st.integers(0, 99), target_db=st.floats(14, 24))
def test_exact_meets_the_target_and_one_token_less_misses(
    tiny_tokenizer: ImageTokenizer, seed: int, target_db: float
) -> None:
    pixels = picture(seed, *SIDES_PX)
    (kept,) = tiny_tokenizer.encode([pixels], TokenBudget(min_psnr_db=target_db, mode="exact"))
    (whole,) = tiny_tokenizer.encode([pixels])
    if quality_db(tiny_tokenizer, pixels, kept) < target_db:
        assert kept.length == whole.length
    elif kept.length > 1:
        assert quality_db(tiny_tokenizer, pixels, kept.prefix(kept.length - 1)) < target_db


@settings(max_examples=10)
@given(seed=st.integers(0, 99), target_db=st.floats(14, 24))
def test_verify_meets_the_target_wherever_fast_does(
    tiny_tokenizer: ImageTokenizer, seed: int, target_db: float
) -> None:
    pixels = picture(seed, *SIDES_PX)
    fast, verified = (
        tiny_tokenizer.encode([pixels], TokenBudget(min_psnr_db=target_db, mode=mode))[0]
        for mode in ("fast", "verify")
    )
    if quality_db(tiny_tokenizer, pixels, fast) >= target_db:
        # Where no decode showed it, the stream is at least as long; more tokens may cost a hundredth.
        assert quality_db(tiny_tokenizer, pixels, verified) >= target_db - 0.02


@pytest.mark.parametrize("mode", ["verify", "exact"])
def test_pillow_images_and_batches_are_searched_too(tiny_tokenizer: ImageTokenizer, mode: Mode) -> None:
    pictures = [picture(seed, *SIDES_PX) for seed in (1, 2)]
    budget = TokenBudget(min_psnr_db=18.0, mode=mode)
    together = tiny_tokenizer.encode([Image.fromarray(pixels) for pixels in pictures], budget)
    assert together == [tiny_tokenizer.encode([pixels], budget)[0] for pixels in pictures]
