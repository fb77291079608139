"""The search for a peer's best file, with a codec whose best answer is known."""

from typing import Any

import pytest

from benchmarks.codec import Codec
from benchmarks.peers import all_peers
from benchmarks.pictures import Picture
from benchmarks.scores import BYTE_COUNTS, capped_psnr_db
from benchmarks.search import best_row, decode_setting


def test_the_largest_size_that_fits_wins_for_a_lossless_codec(picture: Picture, padded: Any) -> None:
    row = best_row(picture, padded.codec(), (14, 2 + 3 * 16 * 16, 2 + 3 * 64 * 64))
    assert [None if cell is None else cell.setting.split(",")[0] for cell in row] == [
        "2 px",
        "16 px",
        "64 px",
    ]
    assert row[-1] is not None and row[-1].psnr_db == 99.0


def test_a_byte_count_that_no_file_fits_has_no_score(picture: Picture, padded: Any) -> None:
    assert best_row(picture, padded.codec(), (13,)) == (None,)


def test_no_candidate_is_encoded_twice(picture: Picture, padded: Any) -> None:
    best_row(picture, padded.codec(), (500, 600, 700, 800))
    assert len(padded.calls) == len(set(padded.calls))


@pytest.mark.parametrize("codec", all_peers(), ids=lambda codec: codec.name)
def test_every_peer_keeps_its_byte_counts_and_more_bytes_are_never_worse(
    codec: Codec, picture: Picture
) -> None:
    counts = (32, 512, 2048)
    row = best_row(picture, codec, counts)
    cells = [(count, cell) for count, cell in zip(counts, row, strict=True) if cell is not None]
    assert cells
    assert all(cell.size_bytes <= count for count, cell in cells)
    assert [cell.psnr_db for _, cell in cells] == sorted(cell.psnr_db for _, cell in cells)


@pytest.mark.parametrize("codec", all_peers(), ids=lambda codec: codec.name)
def test_a_kept_setting_makes_the_same_picture_again(codec: Codec, picture: Picture) -> None:
    (cell,) = best_row(picture, codec, (2048,))
    assert cell is not None
    decoded = decode_setting(picture, codec, cell.setting)
    assert capped_psnr_db(picture.pixels, decoded) == pytest.approx(cell.psnr_db, abs=1e-4)


def test_the_byte_counts_are_the_fourteen_of_the_design() -> None:
    assert len(BYTE_COUNTS) == 14
    assert list(BYTE_COUNTS) == sorted(set(BYTE_COUNTS))
