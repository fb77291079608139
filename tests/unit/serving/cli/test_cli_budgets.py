"""`tessera encode` with a total for all pictures, and with a quality that is made sure by decoding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_fakes import Ran

from tokenizer.sequence import TokenSequence


def sizes(*names: str) -> list[int]:
    return [len(Path("out", name).read_bytes()) for name in names]


@pytest.mark.parametrize("total", [22, 100, 301, 404])
def test_a_total_is_spent_to_the_byte(folder: Path, total: int) -> None:
    ran = Ran("encode", "a.png", "b.jpg", "-o", "out/", "--total-bytes", str(total))
    assert (ran.code, ran.err) == (0, "")
    assert sum(sizes("a.tsr", "b.tsr")) == total


def test_a_total_above_all_tokens_keeps_them_all(folder: Path) -> None:
    ran = Ran("encode", "a.png", "b.jpg", "-o", "out/", "--total-bytes", "9999")
    assert ran.code == 0 and "all tokens take 404 of 9999 bytes" in ran.err
    assert sizes("a.tsr", "b.tsr") == [202, 202]


def test_a_bad_picture_takes_nothing_of_the_total(folder: Path) -> None:
    ran = Ran("encode", "a.png", "bad.png", "b.jpg", "-o", "out/", "--total-bytes", "150", "--json")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 3
    assert [line.get("reason") for line in lines] == [None, "IMAGE_FORMAT_UNSUPPORTED", None]
    assert sum(line.get("bytes", 0) for line in lines) == sum(sizes("a.tsr", "b.tsr")) == 150


def test_each_picture_keeps_its_own_bounds(folder: Path) -> None:
    options = ("--total-bytes", "300", "--min-bytes-each", "60", "--max-bytes-each", "120")
    assert Ran("encode", "a.png", "b.jpg", "-o", "out/", *options).code == 0
    assert sizes("a.tsr", "b.tsr") == [120, 120]


def test_bare_streams_count_without_header(folder: Path) -> None:
    assert Ran("encode", "a.png", "b.jpg", "-o", "out/", "--bare", "--total-bytes", "99").code == 0
    assert sum(sizes("a.tsr", "b.tsr")) == 99


def test_a_total_that_holds_no_token_of_each_is_a_failure_that_writes_nothing(folder: Path) -> None:
    ran = Ran("encode", "a.png", "b.jpg", "-o", "out/", "--total-bytes", "21")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "the least they take is 22" in ran.err and not Path("out").exists()


@pytest.mark.parametrize("mode", ["verify", "exact"])
def test_a_mode_that_decodes_keeps_the_quality_it_was_asked(folder: Path, mode: str) -> None:
    """The fake's curve is a guess; its decode of a thumbnail is real."""
    assert Ran("encode", "a.png", "--min-psnr", "14", "--mode", mode, "--json").code == 0
    kept = TokenSequence.from_bytes(Path("a.tsr").read_bytes())
    assert 1 < kept.length <= 192


@pytest.mark.parametrize("mode", ["fast", "verify", "exact"])
def test_a_quality_that_is_not_reached_is_a_warning_and_the_stream_is_written(
    folder: Path, mode: str
) -> None:
    """The fake's curve ends at 30 dB less a margin of 1."""
    ran = Ran("encode", "a.png", "--min-psnr", "60", "--mode", mode)
    assert (ran.code, ran.err.count("\n")) == (0, 1)
    assert ran.err.startswith("warning: a.png: ") and "60 dB" in ran.err and "192 tokens" in ran.err
    assert ("at best 29.0 dB" in ran.err) == (mode == "fast")
    assert Path("a.tsr").stat().st_size == 202
    assert "warning" in json.loads(Ran("encode", "a.png", "--min-psnr", "60", "--json").out)
    assert Ran("encode", "a.png", "--min-psnr", "29").err == ""


@pytest.mark.parametrize(
    "options",
    [
        ["--mode", "exact"],
        ["--mode", "exact", "--max-bytes", "90"],
        ["--mode", "slow", "--min-psnr", "20"],
        ["--total-bytes", "90", "--max-bytes", "50"],
        ["--total-bytes", "90", "--goal", "best"],
        ["--total-bytes", "90", "--min-bytes-each", "60", "--max-bytes-each", "50"],
        ["--goal", "psnr"],
        ["--max-bytes-each", "50"],
    ],
)
def test_budgets_without_sense_end_with_2_and_write_nothing(folder: Path, options: list[str]) -> None:
    before = sorted(folder.iterdir())
    assert Ran("encode", "a.png", *options).code == 2
    assert sorted(folder.iterdir()) == before
