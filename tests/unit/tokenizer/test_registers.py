"""Register ids as bytes, and the place of patches: numpy alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.canvas import Size
from tokenizer.errors import ArtifactError
from tokenizer.registers import RegisterLayout, RegisterTables, bytes_per_register, patch_positions

LEVELS = ((4, 4, 4, 4), (8, 8, 8, 5, 5, 5), (7, 5, 5, 5, 5))


def layout(levels: tuple[int, ...], num_registers: int = 12, patch_px: int = 16) -> RegisterLayout:
    def number(value: int) -> np.ndarray:
        return np.asarray([value], np.int32)

    return RegisterLayout(
        RegisterTables(
            levels=np.asarray(levels, np.int32),
            num_registers=number(num_registers),
            patch_px=number(patch_px),
            width=number(64),
            canvas_area_px=number(64 * 64),
            anchor_psnr_db=np.zeros(3, np.float32),
        )
    )


@pytest.mark.parametrize(("levels", "size"), [((4, 4, 4, 4), 1), ((8, 8, 8, 5, 5, 5), 2), ((8, 8, 8), 2)])
def test_a_register_takes_as_many_bytes_as_its_codebook_needs(levels: tuple[int, ...], size: int) -> None:
    assert bytes_per_register(levels) == size
    assert layout(levels).max_tokens == 12 * size


@pytest.mark.parametrize("levels", LEVELS)
def test_ids_survive_the_way_through_bytes(levels: tuple[int, ...]) -> None:
    registers = layout(levels)
    ids = np.random.default_rng(0).integers(0, registers.codebook_size, 12)
    ids[:2] = 0, registers.codebook_size - 1
    assert np.array_equal(registers.ids(registers.tokens(ids)), ids)


def test_two_byte_ids_are_big_endian_and_half_a_register_is_ignored() -> None:
    registers = layout((8, 8, 8, 5, 5, 5))
    tokens = registers.tokens(np.asarray([258, 5]))
    assert tokens == bytes((1, 2, 0, 5))
    assert registers.ids(tokens[:3]).tolist() == registers.ids(tokens[:2]).tolist() == [258]
    assert registers.ids(tokens[:1]).tolist() == []


@pytest.mark.parametrize("levels", LEVELS)
@given(tokens=st.binary(max_size=24))
def test_every_byte_string_is_legal(levels: tuple[int, ...], tokens: bytes) -> None:
    registers = layout(levels)
    ids = registers.ids(tokens)
    assert len(ids) == len(tokens) // registers.bytes_per_register
    assert all(0 <= one < registers.codebook_size for one in ids.tolist())


@pytest.mark.parametrize("canvas", [Size(16, 16), Size(64, 32), Size(128, 208)])
@pytest.mark.parametrize("patch_px", [8, 16])
def test_every_patch_of_a_canvas_has_a_place_of_its_own(canvas: Size, patch_px: int) -> None:
    places = patch_positions(canvas, patch_px, 64)
    assert places.shape == (canvas.height_px // patch_px, canvas.width_px // patch_px, 64)
    assert len(np.unique(places.reshape(-1, 64).round(4), axis=0)) == places.shape[0] * places.shape[1]


def test_a_place_does_not_depend_on_the_resolution() -> None:
    """The upper left quarter's centre is patch (0, 0) of 2 x 2."""
    coarse, fine = (patch_positions(Size(side, side), side // grid, 64) for side, grid in ((32, 2), (96, 6)))
    np.testing.assert_allclose(coarse[0, 0], fine[1, 1], atol=1e-5)


def test_tables_with_impossible_numbers_are_refused() -> None:
    with pytest.raises(ArtifactError, match="levels of at least 2"):
        layout((1, 4))
    with pytest.raises(ArtifactError, match="must divide 16"):
        layout((4, 4), patch_px=12)
