"""The spectral layout: every byte string is a picture, every prefix a coarser one, every error exact.

Run on tables by formula (no training, integers) and on the tables of the tiny fitted model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from generated_pictures import picture
from numpy_codec import analyse, formula_tables, random_coefficients, synthesise

from tokenizer.artifact import ModelArtifact
from tokenizer.canvas import Size
from tokenizer.spectral import (
    BITS_PER_TOKEN,
    ONE,
    SpectralLayout,
    block_size,
    dct_basis,
    knot_weights,
    max_tokens,
)

CANVASES = (Size(16, 16), Size(64, 64), Size(320, 208), Size(4096, 16), Size(16, 4096))
LENGTHS = (0, 1, 2, 3, 8, 24, 64, 128, 300, 512, 900)


@pytest.fixture(scope="module", params=["formula", "fitted"])
def layout(request: pytest.FixtureRequest) -> SpectralLayout:
    if request.param == "formula":
        return SpectralLayout(formula_tables())
    folder: Path = request.getfixturevalue("tiny_artifact")
    return SpectralLayout(ModelArtifact.load(folder).tables)


def sigma_of(layout: SpectralLayout, class_id: int, canvas: Size) -> np.ndarray:
    return layout.order(class_id, canvas).sigma


def random_tokens(layout: SpectralLayout, canvas: Size, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    class_id = int(rng.integers(layout.tables.num_classes))
    return bytes((class_id,)) + rng.bytes(layout.max_tokens(canvas) - 1)


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_tokens_of_a_decoded_stream_are_the_stream(layout: SpectralLayout, canvas: Size) -> None:
    """A decoded value lies in the very cell whose bits were sent, so tokens are a fixed point."""
    tokens = random_tokens(layout, canvas, seed=1)
    means = layout.decode(tokens, canvas)
    assert layout.tokens(layout.cells(means, tokens[0], canvas), tokens[0], canvas) == tokens


def test_a_prefix_of_the_tokens_fixes_the_same_bits(layout: SpectralLayout) -> None:
    canvas = Size(64, 64)
    tokens = random_tokens(layout, canvas, seed=2)
    for length in LENGTHS[2:]:
        means = layout.decode(tokens[:length], canvas)
        again = layout.tokens(layout.cells(means, tokens[0], canvas), tokens[0], canvas)
        assert again[:length] == tokens[:length]


def test_every_prefix_decodes(layout: SpectralLayout) -> None:
    canvas = Size(16, 16)
    tokens = random_tokens(layout, canvas, seed=3)
    for length in range(len(tokens) + 1):
        means = layout.decode(tokens[:length], canvas)
        assert means.shape == (3, *block_size(canvas))
        assert np.isfinite(means).all()


def test_nothing_sent_decodes_to_the_mean_colour(layout: SpectralLayout) -> None:
    for tokens in (b"", b"\x00", b"\xff"):
        assert not layout.decode(tokens, Size(64, 64)).any()


@pytest.mark.parametrize("first", range(256))
def test_every_first_byte_is_legal(first: int) -> None:
    layout, canvas = SpectralLayout(formula_tables()), Size(16, 16)
    tokens = bytes((first,)) + b"\xa5" * 40
    same = bytes((first % layout.tables.num_classes,)) + b"\xa5" * 40
    assert np.array_equal(layout.decode(tokens, canvas), layout.decode(same, canvas))
    assert layout.expected_mse(tokens, canvas) == layout.expected_mse(same, canvas)


def test_class_bytes_beyond_the_classes_wrap(layout: SpectralLayout) -> None:
    count = layout.tables.num_classes
    assert [layout.class_of(bytes((first,))) for first in (0, count - 1, count, 255)] == [
        0,
        count - 1,
        0,
        255 % count,
    ]


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_the_order_repeats_no_bit_and_sends_planes_in_order(layout: SpectralLayout, canvas: Size) -> None:
    for class_id in range(layout.tables.num_classes):
        order = layout.order(class_id, canvas)
        by_coefficient = np.argsort(order.coefficient, kind="stable")
        coefficient, plane = order.coefficient[by_coefficient], order.plane[by_coefficient]
        starts = np.flatnonzero(np.diff(coefficient, prepend=-1))
        place = np.arange(len(coefficient)) - np.repeat(starts, np.diff([*starts, len(coefficient)]))
        assert np.array_equal(plane, place)
        assert plane.max() < layout.tables.num_planes
        assert coefficient.max() < 3 * np.prod(block_size(canvas))


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_bits_come_by_falling_gain(layout: SpectralLayout, canvas: Size) -> None:
    order = layout.order(0, canvas)
    expected = order.expected_mse.astype(np.float64)
    assert len(expected) == layout.max_tokens(canvas) + 1
    assert (np.diff(expected) <= 0).all()
    removed = -np.diff(expected)[1:]
    # In the large: the first half of the stream is expected to remove more than the second.
    assert removed[: len(removed) // 2].sum() > removed[len(removed) // 2 :].sum()


@pytest.mark.parametrize(
    ("canvas", "tokens"),
    [
        (Size(256, 256), 2048),
        (Size(320, 208), 2080),
        (Size(1024, 1024), 32_768),
        (Size(64, 64), 2048),
        (Size(16, 16), 961),
    ],
    ids=str,
)
def test_number_of_tokens_follows_from_the_canvas(canvas: Size, tokens: int) -> None:
    assert max_tokens(canvas, num_planes=10) == tokens


def test_a_megapixel_canvas_encodes_and_decodes() -> None:
    layout, canvas = SpectralLayout(formula_tables()), Size(1024, 1024)
    coefficients = random_coefficients(sigma_of(layout, 1, canvas), block_size(canvas), seed=4)
    tokens = layout.tokens(layout.cells(coefficients, 1, canvas), 1, canvas)
    assert len(tokens) == 32_768
    assert np.isfinite(layout.decode(tokens, canvas)).all()


def test_the_class_whose_spectrum_fits_is_chosen() -> None:
    layout, canvas = SpectralLayout(formula_tables()), Size(128, 128)
    for class_id in range(layout.tables.num_classes):
        sigma = sigma_of(layout, class_id, canvas)
        standard = np.random.default_rng(class_id).standard_normal(len(sigma))
        drawn = (standard * sigma).astype(np.float32).reshape(3, *block_size(canvas))
        assert layout.choose_class(drawn, canvas) == class_id


def test_longer_prefixes_are_closer_on_average(layout: SpectralLayout) -> None:
    canvas = Size(64, 64)
    errors = []
    for seed in range(8):
        coefficients, _, _ = analyse(picture(seed, 64, 64), layout.tables)
        tokens = layout.encode(coefficients, canvas)
        decoded = [layout.decode(tokens[:length], canvas) for length in LENGTHS]
        errors.append([float(np.square(coefficients - means).sum()) for means in decoded])
    mean = np.mean(errors, axis=0)
    assert mean[0] == mean[1]
    assert (np.diff(mean[1:]) < 0).all()


@pytest.mark.parametrize("canvas", [Size(16, 16), Size(64, 96), Size(256, 256), Size(320, 208)], ids=str)
def test_distortion_is_the_error_of_the_decoded_picture(layout: SpectralLayout, canvas: Size) -> None:
    """Parseval: the error is known from coefficients alone, also where the canvas drops frequencies."""
    pixels = picture(5, canvas.width_px, canvas.height_px)
    coefficients, energy, centred = analyse(pixels, layout.tables)
    class_id = layout.choose_class(coefficients, canvas)
    cells = layout.cells(coefficients, class_id, canvas)
    tokens = layout.tokens(cells, class_id, canvas)
    known = layout.distortion(cells, coefficients, energy, class_id, canvas, LENGTHS)
    for length, mse in zip(LENGTHS, known, strict=True):
        decoded = synthesise(layout.decode(tokens[:length], canvas), canvas, layout.tables)
        assert mse == pytest.approx(np.square(decoded - centred).mean(), rel=1e-3, abs=1e-2)


def test_distortion_counts_what_the_encoder_moved() -> None:
    """Sent coefficients may differ from the picture's own: the error is against the picture."""
    layout, canvas = SpectralLayout(formula_tables()), Size(64, 64)
    coefficients, energy, centred = analyse(picture(6, 64, 64), layout.tables)
    cells = layout.cells(coefficients * 0.9, 0, canvas)
    (mse,) = layout.distortion(cells, coefficients, energy, 0, canvas, [200])
    decoded = synthesise(layout.decode(layout.tokens(cells, 0, canvas)[:200], canvas), canvas, layout.tables)
    assert mse == pytest.approx(np.square(decoded - centred).mean(), rel=1e-3)


def test_values_beyond_every_cell_take_the_outermost() -> None:
    layout, canvas = SpectralLayout(formula_tables()), Size(16, 16)
    huge = np.full((3, 16, 16), 1e9, np.float32)
    assert (layout.cells(huge, 0, canvas) == 2**layout.tables.num_planes - 1).all()
    assert (layout.cells(-huge, 0, canvas) == 0).all()


@pytest.mark.parametrize(("length", "count"), [(16, 16), (208, 104), (1024, 512)])
def test_dct_rows_are_orthonormal(length: int, count: int) -> None:
    basis = dct_basis(length, count).astype(np.float64)
    assert np.abs(basis @ basis.T - np.eye(count)).max() < 1e-5


@pytest.mark.parametrize("canvas", [*CANVASES, Size(4096, 4096)], ids=str)
def test_knot_weights_share_out_every_frequency(canvas: Size) -> None:
    tables = formula_tables()
    weights = knot_weights(canvas.width_px, canvas.height_px, block_size(canvas)[1], tables.knots)
    assert (weights.sum(1) == ONE).all()
    assert (weights >= 0).all()


def test_one_token_holds_eight_bits(layout: SpectralLayout) -> None:
    order = layout.order(0, Size(64, 64))
    assert len(order.coefficient) == BITS_PER_TOKEN * (layout.max_tokens(Size(64, 64)) - 1)
