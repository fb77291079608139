"""Tokens of fixed numbers must never change: streams that people have stored depend on them.

The tables are given by formula and the coefficients stand well inside their cells, so no training and no
rounding stands between this file and its bytes. A change here is breaking: new version, CHANGELOG line,
`--update-golden`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy_codec import formula_tables

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.range_form import RangeLayout
from tokenizer.sequence import TokenSequence
from tokenizer.spectral import SpectralLayout, block_size
from training.context_model import starting_tables

GOLDEN = Path(__file__).parent / "streams.json"
CANVASES = (Size(16, 16), Size(64, 48), Size(256, 256), Size(320, 208), Size(1024, 64), Size(512, 512))
SHOWN_BYTES = 64


def integer_coefficients(canvas: Size) -> np.ndarray:
    """A fixed pattern of integers that falls with frequency, f32[3, bh, bw], from a linear congruence.

    The 0.3 keeps all of them off the borders, which are whole numbers of sixteenths or irrational.
    """
    bh, bw = block_size(canvas)
    plane, v, u = np.indices((3, bh, bw))
    pattern = (plane * 7919 + v * 104_729 + u * 1_299_709 + 12_345) * 1_103_515_245 >> 8
    noise = pattern % 2001 - 1000
    return ((noise * 3 // ((plane + 1) * (1 + np.maximum(v, u)) ** 2) + 0.3) / 16).astype(np.float32)


def stream(canvas: Size) -> dict[str, object]:
    """What is frozen of a canvas: file bytes of one picture in both codings, and the order of all bits."""
    layout = SpectralLayout(formula_tables())
    coefficients = integer_coefficients(canvas)
    class_id = layout.choose_class(coefficients, canvas)
    cells = layout.cells(coefficients, class_id, canvas)
    tokens = layout.tokens(cells, class_id, canvas)
    data = TokenSequence(tokens, canvas, "0011aabb", canvas, coding=Coding.FIXED).to_bytes()
    order = hashlib.sha256()
    for k in range(layout.tables.num_classes):
        order.update(layout.order(k, canvas).coefficient.astype("<i4").tobytes())
        order.update(layout.order(k, canvas).plane.astype("<i4").tobytes())
    return {
        "begins_with": data[:SHOWN_BYTES].hex(),
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "order_sha256": order.hexdigest(),
        "range_sha256": range_meaning(layout, canvas),
    }


def range_meaning(layout: SpectralLayout, canvas: Size) -> str:
    """Hash of all that 300 fixed bytes of the range coding say: no float decides any of it."""
    tokens = bytes((k * 2_654_435_761 >> 13) & 0xFF for k in range(300))
    state = RangeLayout(layout, starting_tables()).read(tokens, canvas)
    arrays = (state.is_found, state.is_negative, state.refinements, state.known_log, state.low)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> dict[str, dict[str, object]]:
    if request.config.getoption("--update-golden"):
        now = {str(canvas): stream(canvas) for canvas in CANVASES}
        GOLDEN.write_text(json.dumps(now, indent=1) + "\n")
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_file_bytes_of_fixed_coefficients_are_exact(
    golden: dict[str, dict[str, object]], canvas: Size
) -> None:
    assert stream(canvas) == golden[str(canvas)]


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_no_golden_bit_hangs_on_rounding(canvas: Size) -> None:
    """Every coefficient lies far enough from a cell's border that no machine's floats can move it."""
    layout = SpectralLayout(formula_tables())
    coefficients = integer_coefficients(canvas)
    order = layout.order(layout.choose_class(coefficients, canvas), canvas)
    standard = (coefficients.reshape(-1) / order.sigma)[np.unique(order.coefficient)]
    distance = np.abs(standard[:, None] - layout.tables.thresholds).min(1)
    # Ten times what one unit in the last place of f32 is at the outermost border, 3.5 sigmas.
    assert distance.min() > 2.5e-6


def test_golden_streams_use_many_cells_and_bytes() -> None:
    """A golden of zeros would prove nothing."""
    layout, canvas = SpectralLayout(formula_tables()), Size(256, 256)
    coefficients = integer_coefficients(canvas)
    class_id = layout.choose_class(coefficients, canvas)
    cells = layout.cells(coefficients, class_id, canvas)
    assert len(np.unique(cells)) == 2**layout.tables.num_planes
    assert len(set(layout.tokens(cells, class_id, canvas))) > 100
