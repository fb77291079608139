"""The fast search for the largest keys finds what a look at all of them finds, ties included."""

from __future__ import annotations

import numpy as np
import pytest

from tokenizer.artifact import ModelArtifact
from tokenizer.canvas import Size
from tokenizer.falling_keys import largest
from tokenizer.spectral import BITS_PER_TOKEN, FRACTION_BITS, SpectralLayout


def plainly(base: np.ndarray, fall: np.ndarray, kind: np.ndarray, count: int) -> np.ndarray:
    """All keys, and a stable sort of those that reach the last one."""
    key = (base[:, None] + fall[kind]).reshape(-1)
    candidates = np.flatnonzero(key >= np.partition(key, len(key) - count)[len(key) - count])
    return candidates[np.argsort(-key[candidates], kind="stable")][:count]


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("spread", [1, 4, 2**32])
def test_any_falling_table_gives_what_sorting_it_gives(columns: int, spread: int) -> None:
    draw = np.random.default_rng(columns * spread)
    base, kind = draw.integers(-spread, spread, 60), draw.integers(0, 3, 60)
    fall = -np.cumsum(draw.integers(0, max(2, spread // 4), (3, columns)), axis=1)
    for count in (1, 7, 59, 60, 61, 60 * columns):
        if count <= 60 * columns:
            found = largest(base, fall, kind, count)
            assert np.array_equal(found, plainly(base, fall, kind, count))


@pytest.mark.parametrize(
    ("canvas", "every"),
    [(Size(16, 16), 1), (Size(32, 32), 1), (Size(256, 256), 1), (Size(320, 208), 1), (Size(4096, 16), 1),
     (Size(1024, 1024), 40)],
    ids=str,
)  # fmt: skip
def test_the_shipped_model_has_the_order_of_the_plain_way(canvas: Size, every: int) -> None:
    layout = SpectralLayout(ModelArtifact.load("default").tables)
    gain = layout.tables.gain.astype(np.int64) << 2 * FRACTION_BITS
    count = BITS_PER_TOKEN * (layout.max_tokens(canvas) - 1)
    for class_id in range(0, layout.tables.num_classes, every):
        order = layout.order(class_id, canvas)
        wanted = plainly(layout.log_variance(class_id, canvas), gain, layout.groups(canvas), count)
        coefficient, plane = np.divmod(wanted, layout.tables.num_planes)
        assert np.array_equal(order.coefficient, coefficient)
        assert np.array_equal(order.plane, plane)
