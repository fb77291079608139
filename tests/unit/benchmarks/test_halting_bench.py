"""The halting bench: its oracle finds the true shortest length, and its sums are right."""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.halting import TrueCurve
from benchmarks.halting_report import Found, Outcome, summarise
from benchmarks.pictures import Picture
from tokenizer import Size, TokenSequence

SIDE_PX = 16


class MoreTokensFewerErrors:
    """Decodes to a picture in which the first `length` of 256 pixels are right and the others off by 64."""

    fingerprint = "00000000"

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels
        self.decoded_count = 0

    def decode(self, sequences: list[TokenSequence]) -> list[NDArray[np.uint8]]:
        self.decoded_count += len(sequences)
        return [self._decode(sequence.length) for sequence in sequences]

    def _decode(self, length: int) -> NDArray[np.uint8]:
        wrong = self._pixels.reshape(-1, 3) ^ 64
        wrong[:length] = self._pixels.reshape(-1, 3)[:length]
        return wrong.reshape(self._pixels.shape)


def true_curve() -> TrueCurve:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    whole = TokenSequence(bytes(256), Size(SIDE_PX, SIDE_PX), "00000000")
    return TrueCurve(MoreTokensFewerErrors(pixels), Picture("p", pixels, "d"), whole)  # type: ignore[arg-type]


def test_the_oracle_is_the_shortest_length_that_meets_the_target() -> None:
    true = true_curve()
    for target_db in (13.0, 15.0, 18.5, 30.0):
        (length,) = true.shortest_lengths([target_db])
        assert length is not None
        before, there = true.psnr_db([length - 1, length])
        assert before < target_db <= there


def test_a_target_above_the_best_picture_is_unreachable() -> None:
    assert true_curve().shortest_lengths([18.0, 120.0])[1] is None


def test_no_length_is_decoded_twice() -> None:
    true = true_curve()
    true.shortest_lengths([14.0, 16.0, 18.0])
    assert true.tokenizer.decoded_count == len(true._psnr_db)  # type: ignore[attr-defined]


def outcome(chosen: int, psnr_db: float, oracle: int | None) -> Outcome:
    return Outcome(20.0, 0.9, chosen, False, psnr_db, oracle)


def test_bytes_over_the_oracle_count_only_pictures_that_can_reach_the_target() -> None:
    found = [
        Found("met", (outcome(120, 20.5, 100),), (), {100: 20.0}),
        Found("missed", (outcome(80, 19.0, 100),), (), {100: 20.0}),
        Found("hopeless", (outcome(2048, 12.0, None),), (), {100: 11.0}),
    ]
    row = summarise(found, 20.0, 0.9)
    assert (row.reachable, row.unreachable, row.met_share) == (2, 1, 0.5)
    assert row.bytes_over_oracle == pytest.approx(0.0)
    assert row.fixed_length == 100
    assert row.mean_shortfall_db == pytest.approx(1.0)
