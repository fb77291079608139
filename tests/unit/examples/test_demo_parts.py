"""What the demo shows besides the server: scenes, the best WebP at a size, and the sheet."""

from __future__ import annotations

import numpy as np
from contact_sheet import CELL_PX, Cell, Row, draw_sheet
from scenes import landscape
from webp_peer import best_webp

from tokenizer.quality import psnr_db

Scenes = dict[str, np.ndarray]


def test_scenes_are_three_different_pictures_and_the_same_on_every_run(
    generated_scenes: Scenes,
) -> None:
    assert list(generated_scenes) == ["landscape", "still life", "flowers"]
    for pixels in generated_scenes.values():
        assert pixels.shape == (512, 768, 3) and pixels.dtype == np.uint8
    assert (generated_scenes["landscape"] == landscape()).all()


def test_the_best_webp_keeps_to_the_bytes_and_gets_better_with_more(
    generated_scenes: Scenes,
) -> None:
    source = generated_scenes["still life"][::4, ::4]
    found = [best_webp(source, size_bytes) for size_bytes in (64, 128, 512, 2048)]
    qualities = []
    for webp, size_bytes in zip(found, (64, 128, 512, 2048), strict=True):
        assert webp is not None and webp.size_bytes <= size_bytes
        assert webp.pixels.shape == source.shape
        assert webp.psnr_db == psnr_db(source, webp.pixels)
        qualities.append(webp.psnr_db)
    assert qualities == sorted(qualities)


def test_no_webp_has_24_bytes(generated_scenes: Scenes) -> None:
    assert best_webp(generated_scenes["flowers"], 24) is None


def test_the_sheet_has_a_column_for_each_head_and_a_row_for_each_row() -> None:
    wide, tall = np.full((20, 40, 3), 9, np.uint8), np.full((40, 20, 3), 200, np.uint8)
    rows = [Row("a", [Cell("wide", wide), None, Cell("nothing")]), Row("b", [Cell("tall", tall)])]
    sheet = np.asarray(draw_sheet("title", ["one", "two", "three"], rows))
    assert sheet.shape[1] > 3 * CELL_PX
    assert np.all(sheet == 9, axis=2).sum() == CELL_PX * CELL_PX // 2
    assert np.all(sheet == 200, axis=2).sum() == CELL_PX * CELL_PX // 2
