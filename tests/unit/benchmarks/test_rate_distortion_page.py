"""The page of a rate-distortion run: how many pictures a codec reaches, never a mean over some of them."""

from dataclasses import replace

from benchmarks.pictures import Picture
from benchmarks.rate_distortion_report import Measured, page
from benchmarks.scores import Row, Score, Series

MODEL = {"name": "tiny", "version": "0", "fingerprint": "00000000", "digest": "0" * 64}


def row(*values: float | None) -> Row:
    return tuple(None if value is None else Score(10, value, 0.5, 0.5, "") for value in values)


def measured(picture: Picture) -> Measured:
    ours = Series("Tessera tokens", (row(17.0, 20.0, 22.0), row(18.0, 19.0, 23.0)), is_ours=True)
    peer = Series("WebP", (row(None, 18.5, 21.0), row(None, None, 24.0)))
    return Measured(
        "set", (16, 64, 256), [picture, replace(picture, name="b")], [ours, peer], MODEL, ["AVIF"]
    )


def test_cells_say_mean_or_share_or_nothing(picture: Picture) -> None:
    text = page(measured(picture))
    assert "| 16 | 17.50 | – | – |" in text
    assert "| 64 | 19.50 | (1/2) | – |" in text
    assert "| 256 | 22.50 | 22.50 | 22.50 |" in text


def test_codecs_that_are_not_installed_are_named(picture: Picture) -> None:
    assert "Not installed, so left out: AVIF." in page(measured(picture))


def test_monotonicity_covers_ours_and_not_the_peers(picture: Picture) -> None:
    tail = page(measured(picture)).partition("## Does quality ever fall")[2]
    assert "| Tessera tokens | 4 of 4 (100.0 %) | 0.000 dB | yes |" in tail
    assert "WebP" not in tail
