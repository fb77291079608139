"""The sheet of realism: every picture in every way, beside its original."""

from __future__ import annotations

import numpy as np
from generated_pictures import picture
from realism_sheet import heads, realism_sheet, square

from tokenizer import ImageTokenizer


def test_each_row_shows_the_original_then_both_ways_at_each_size(refined_tokenizer: ImageTokenizer) -> None:
    (row,) = realism_sheet(refined_tokenizer, {"one": picture(1, 64, 80)}, steps=1)
    assert len(row.cells) == len(heads()) == 5
    original, fidelity, realism, *_ = (cell.pixels for cell in row.cells if cell)
    assert np.array_equal(original, square(picture(1, 64, 80)))
    assert not np.array_equal(fidelity, realism)
