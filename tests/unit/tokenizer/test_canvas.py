"""The canvas rule is part of the file format: integers only, the same for everybody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.canvas import DEFAULT_AREA_PX, MAX_SIDE_PX, MAX_SOURCE_SIDE_PX, Size, choose_canvas, is_canvas

sources = st.builds(Size, st.integers(1, MAX_SOURCE_SIDE_PX), st.integers(1, MAX_SOURCE_SIDE_PX))
areas = st.integers(16 * 16, MAX_SIDE_PX**2)
# Aspects at which both sides are at least 64 pixels on the default canvas.
common_sources = st.builds(Size, st.integers(256, 4096), st.integers(256, 4096))


@given(sources, areas)
def test_every_source_has_a_legal_canvas(source: Size, area_px: int) -> None:
    assert is_canvas(choose_canvas(source, area_px))


@given(sources)
def test_turning_the_source_turns_the_canvas(source: Size) -> None:
    canvas = choose_canvas(source)
    turned = choose_canvas(Size(source.height_px, source.width_px))
    assert turned == Size(canvas.height_px, canvas.width_px)


@given(st.integers(1, 16), st.integers(1, 16))
def test_a_source_that_is_a_canvas_keeps_its_pixels(columns: int, rows: int) -> None:
    source = Size(16 * columns, 16 * rows)
    assert choose_canvas(source) == source


@given(common_sources)
def test_the_canvas_keeps_area_and_aspect_to_the_nearest_16_pixels(source: Size) -> None:
    canvas = choose_canvas(source)
    scale = (DEFAULT_AREA_PX / source.area_px) ** 0.5
    assert abs(canvas.width_px - scale * source.width_px) <= 9
    assert abs(canvas.height_px - scale * source.height_px) <= 9


@given(common_sources, areas, areas)
def test_a_larger_area_never_gives_a_smaller_canvas(source: Size, a: int, b: int) -> None:
    small, large = (choose_canvas(source, area) for area in sorted((a, b)))
    assert small.width_px <= large.width_px
    assert small.height_px <= large.height_px


@pytest.mark.parametrize(
    ("source", "canvas"),
    [
        (Size(1, 1), Size(16, 16)),
        (Size(256, 256), Size(256, 256)),
        (Size(768, 512), Size(320, 208)),
        (Size(4000, 3000), Size(288, 224)),
        (Size(65_535, 1), Size(4096, 16)),
        (Size(65_535, 65_535), Size(256, 256)),
    ],
)
def test_canvases_that_the_format_fixes(source: Size, canvas: Size) -> None:
    assert choose_canvas(source) == canvas


@pytest.mark.parametrize("size", [Size(0, 16), Size(16, 8), Size(24, 16), Size(4112, 16), Size(-16, 16)])
def test_other_sizes_are_no_canvas(size: Size) -> None:
    assert not is_canvas(size)


def test_size_reads_as_width_by_height() -> None:
    assert str(Size(640, 480)) == "640x480"
