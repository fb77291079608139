"""The search for a peer's best file, with a codec whose best answer is known."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.codec import Codec
from benchmarks.peers import all_peers
from benchmarks.pictures import Picture
from benchmarks.scores import BYTE_COUNTS
from benchmarks.search import best_row


def picture(side_px: int = 64) -> Picture:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(noise).resize((side_px, side_px), Image.Resampling.BICUBIC))
    return Picture("noise", pixels, "digest")


def padded_codec(calls: list[tuple[int, str, int]]) -> Codec:
    """Stores pixels losslessly and pads the file: longer at higher quality. `calls` sees each encoding."""

    def encode(image: Image.Image, mode: str, quality: int) -> bytes:
        calls.append((image.width, mode, quality))
        return image.width.to_bytes(2, "big") + image.tobytes() + bytes(quality)

    def decode(data: bytes) -> Image.Image:
        side = int.from_bytes(data[:2], "big")
        return Image.frombytes("RGB", (side, side), data[2 : 2 + 3 * side * side])

    return Codec("padded", "1", ("only",), tuple(range(0, 1000, 10)), encode, decode)


def test_the_largest_size_that_fits_wins_for_a_lossless_codec() -> None:
    row = best_row(picture(), padded_codec([]), (14, 2 + 3 * 16 * 16, 2 + 3 * 64 * 64))
    assert [None if cell is None else cell.setting.split(",")[0] for cell in row] == [
        "2 px",
        "16 px",
        "64 px",
    ]
    assert row[-1] is not None and row[-1].psnr_db == 99.0


def test_a_byte_count_that_no_file_fits_has_no_score() -> None:
    assert best_row(picture(), padded_codec([]), (13,)) == (None,)


def test_no_candidate_is_encoded_twice() -> None:
    calls: list[tuple[int, str, int]] = []
    best_row(picture(), padded_codec(calls), (500, 600, 700, 800))
    assert len(calls) == len(set(calls))


@pytest.mark.parametrize("codec", all_peers(), ids=lambda codec: codec.name)
def test_every_peer_keeps_its_byte_counts_and_more_bytes_are_never_worse(codec: Codec) -> None:
    counts = (32, 512, 2048)
    row = best_row(picture(32), codec, counts)
    cells = [(count, cell) for count, cell in zip(counts, row, strict=True) if cell is not None]
    assert cells
    assert all(cell.size_bytes <= count for count, cell in cells)
    assert [cell.psnr_db for _, cell in cells] == sorted(cell.psnr_db for _, cell in cells)


def test_the_byte_counts_are_the_fourteen_of_the_design() -> None:
    assert len(BYTE_COUNTS) == 14
    assert list(BYTE_COUNTS) == sorted(set(BYTE_COUNTS))
