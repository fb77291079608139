"""The order in which a pass asks: both sides of the wire sort alike."""

from __future__ import annotations

import numpy as np
import pytest

from tokenizer.embedded import sort_likely_first
from tokenizer.range_coder import ONE


@pytest.mark.parametrize("count", [0, 1, 5_000])
def test_likely_ones_come_first_and_equal_ones_as_they_stand(count):
    odds = np.random.default_rng(0).integers(1, ONE, count, np.int32)
    odds[::3] = odds[0] if count else 1
    odds[1::50], odds[2::50] = 1, ONE - 1
    order, spare = np.empty(count + 3, np.int32), np.empty(count + 3, np.int32)
    sort_likely_first(odds, order, spare, np.empty(257, np.int32))
    np.testing.assert_array_equal(order[:count], np.argsort(-odds.astype(np.int64), kind="stable"))
