"""TokenSequence: prefixes compose, values are frozen, facts are derived and not stored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.canvas import Size, choose_canvas
from tokenizer.distortion import DistortionCurve
from tokenizer.sequence import TokenSequence

lengths = st.integers(0, 80)
WHOLE = TokenSequence(bytes(range(64)), Size(640, 480), "0011aabb")


@given(st.binary(max_size=64), lengths, lengths)
def test_a_prefix_of_a_prefix_is_the_shorter_prefix(tokens: bytes, a: int, b: int) -> None:
    sequence = TokenSequence(tokens, Size(64, 48), "0011aabb")
    assert sequence.prefix(a).prefix(b) == sequence.prefix(min(a, b))
    assert sequence.tokens.startswith(sequence.prefix(a).tokens)


def test_a_prefix_longer_than_the_sequence_is_the_sequence() -> None:
    assert WHOLE.prefix(1000) == WHOLE


def test_a_prefix_changes_nothing_but_the_tokens() -> None:
    cut = WHOLE.prefix(5)
    assert (cut.source, cut.canvas, cut.fingerprint) == (WHOLE.source, WHOLE.canvas, WHOLE.fingerprint)
    assert WHOLE.length == 64


def test_a_negative_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0 tokens, got -1"):
        WHOLE.prefix(-1)


def test_token_ids_are_the_bytes_and_cannot_be_changed() -> None:
    assert WHOLE.token_ids.dtype == np.uint8
    assert bytes(WHOLE.token_ids) == WHOLE.tokens
    with pytest.raises(ValueError, match="read-only"):
        WHOLE.token_ids[0] = 1


def test_a_sequence_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        WHOLE.tokens = b""  # type: ignore[misc]


def test_the_canvas_follows_from_the_source_unless_given() -> None:
    assert WHOLE.canvas == choose_canvas(WHOLE.source)
    assert dataclasses.replace(WHOLE, canvas=Size(32, 32)).canvas == Size(32, 32)


def test_bits_per_pixel_count_tokens_over_the_source() -> None:
    assert WHOLE.bits_per_pixel == 8 * 64 / (640 * 480)


def test_predicted_quality_belongs_to_the_length() -> None:
    curve = DistortionCurve((16, 64), (18.0, 20.0))
    predicted = dataclasses.replace(WHOLE, curve=curve)
    assert predicted.predicted_psnr_db == 20.0
    assert predicted.prefix(16).predicted_psnr_db == 18.0
    assert TokenSequence.from_bytes(predicted.to_bytes()).predicted_psnr_db is None


def test_the_curve_does_not_count_in_comparison() -> None:
    assert dataclasses.replace(WHOLE, curve=DistortionCurve((1,), (9.0,))) == WHOLE
