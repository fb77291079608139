"""The range-coded form: every byte string decodes, prefixes refine, errors are known exactly."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from generated_pictures import picture
from hypothesis import given
from hypothesis import strategies as st
from numpy_codec import analyse, formula_tables

from tokenizer.canvas import Size
from tokenizer.errors import ArtifactError
from tokenizer.range_form import RangeCoded, RangeLayout
from tokenizer.spectral import SpectralLayout, block_size
from training.context_model import starting_tables

CANVASES = (Size(16, 16), Size(64, 64), Size(48, 80), Size(16, 256))
# A coefficient that was very unlikely takes bytes of its own, and counts only with the last of them.
SETTLING_BYTES = 5
LENGTHS = (0, 1, 2, 3, 5, 8, 13, 24, 64, 128, 300, 700)


@pytest.fixture(scope="module")
def layout() -> RangeLayout:
    return RangeLayout(SpectralLayout(formula_tables()), starting_tables())


def encoded(
    layout: RangeLayout, canvas: Size, seed: int = 3, limit: int = 2048
) -> tuple[RangeCoded, np.ndarray, float]:
    pixels = picture(seed, canvas.width_px, canvas.height_px)
    coefficients, energy, _ = analyse(pixels, layout.spectral.tables)
    class_id = layout.spectral.choose_class(coefficients, canvas)
    return layout.encode(coefficients, coefficients, class_id, canvas, limit), coefficients, energy


def left(coefficients: np.ndarray, decoded: np.ndarray, energy: float) -> float:
    """Squared error per pixel and colour, what the block does not hold included."""
    outside = energy - np.square(coefficients, dtype=np.float64).sum()
    return float(outside + np.square(coefficients - decoded, dtype=np.float64).sum()) / 3


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_the_error_of_every_prefix_is_known_without_decoding(layout: RangeLayout, canvas: Size) -> None:
    """To the bits that the byte at the cut may settle or not: between those of a byte less and some more."""
    coded, coefficients, energy = encoded(layout, canvas)
    lengths = [n for n in LENGTHS if 0 < n < len(coded.tokens) - SETTLING_BYTES]
    told = coded.distortion(energy, lengths)

    def true(length: int) -> float:
        return left(coefficients, layout.decode(coded.tokens[:length], canvas)[0], energy)

    for length, error in zip(lengths, told, strict=True):
        assert true(length + SETTLING_BYTES) - 1e-3 <= error <= true(length - 1) + 1e-3


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_more_bytes_leave_less_error(layout: RangeLayout, canvas: Size) -> None:
    coded, coefficients, energy = encoded(layout, canvas)
    lengths = [n for n in LENGTHS if n <= len(coded.tokens)]
    errors = [left(coefficients, layout.decode(coded.tokens[:n], canvas)[0], energy) for n in lengths]
    assert all(a >= b - 1e-3 for a, b in pairwise(errors))
    assert errors[-1] < errors[0] / 2


def test_a_shorter_stream_is_the_beginning_of_a_longer_one(layout: RangeLayout) -> None:
    canvas = Size(64, 64)
    whole, _, _ = encoded(layout, canvas)
    for limit in (1, 2, 17, 100, 400):
        short, _, _ = encoded(layout, canvas, limit=limit)
        assert short.tokens == whole.tokens[:limit]


def test_a_stream_never_has_more_tokens_than_allowed(layout: RangeLayout) -> None:
    for limit in (1, 5, 64, 333):
        coded, _, _ = encoded(layout, Size(64, 64), limit=limit)
        assert len(coded.tokens) <= limit


def test_a_stream_whose_planes_are_all_sent_is_the_picture(layout: RangeLayout) -> None:
    canvas = Size(16, 16)
    coded, coefficients, energy = encoded(layout, canvas, limit=4000)
    assert len(coded.tokens) < 4000
    assert left(coefficients, layout.decode(coded.tokens, canvas)[0], energy) < 0.05


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_finite_numbers(data: bytes) -> None:
    layout = RangeLayout(SpectralLayout(formula_tables()), starting_tables())
    canvas = Size(32, 32)
    means, expected = layout.decode(data, canvas)
    assert means.shape == (3, *block_size(canvas))
    assert np.isfinite(means).all()
    assert expected > 0


def test_expected_error_falls_along_a_stream(layout: RangeLayout) -> None:
    canvas = Size(64, 64)
    coded, _, _ = encoded(layout, canvas)
    expected = [layout.decode(coded.tokens[:n], canvas)[1] for n in (1, 16, 64, 256, 600)]
    assert expected == sorted(expected, reverse=True)


def test_a_code_that_no_encoder_writes_is_read_as_the_largest_one(layout: RangeLayout) -> None:
    """Six times 0xFF lies beyond the first interval: the code would grow without end."""
    canvas = Size(64, 64)
    for tail in (b"", b"\x7f" * 200, bytes(range(256))):
        beyond, largest = (
            layout.read(b"\x00" + head + tail, canvas) for head in (b"\xff" * 6, b"\xff" * 5 + b"\xfe")
        )
        assert all(np.array_equal(a, b) for a, b in zip(beyond, largest, strict=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("first", np.zeros((2, 24), np.int16)),
        ("first_bias", np.zeros((1, 24), np.int32)),
        ("second_bias", np.zeros(0, np.int32)),
        ("refinement_odds", np.zeros(4, np.int32)),
        ("shifts", np.asarray((4, 40), np.int32)),
        ("fraction", np.full(4, np.nan, np.float32)),
    ],
)
def test_tables_that_compiled_code_cannot_trust_are_refused(name: str, value: np.ndarray) -> None:
    with pytest.raises(ArtifactError):
        dataclasses.replace(starting_tables(), **{name: value})
