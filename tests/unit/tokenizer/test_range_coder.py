"""The arithmetic coder: what was written is read, and a cut stream gives a correct beginning of it."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.range_coder import ONE, OPEN, bit_reader, bit_writer, finish, read_bit, write_bit

ODDS = st.one_of(st.integers(1, ONE - 1), st.sampled_from((1, ONE // 2, ONE - 1)))
QUESTIONS = st.lists(st.tuples(st.integers(0, 1), ODDS), max_size=400)


def written(questions: list[tuple[int, int]], room: int = 1000) -> bytes:
    writer = bit_writer(room)
    for bit, odds in questions:
        write_bit(writer, bit == 1, odds)
    return finish(writer)


def read(data: bytes, questions: list[tuple[int, int]]) -> list[int]:
    reader, bits = bit_reader(data), []
    for _, odds in questions:
        bit = read_bit(reader, odds)
        if bit == OPEN:
            break
        bits.append(bit)
    return bits


def cost_bits(questions: list[tuple[int, int]]) -> float:
    return sum(-math.log2((odds if bit else ONE - odds) / ONE) for bit, odds in questions)


@given(QUESTIONS)
def test_every_bit_comes_back_from_the_whole_stream(questions: list[tuple[int, int]]) -> None:
    assert read(written(questions), questions) == [bit for bit, _ in questions]


@given(QUESTIONS, st.integers(0, 500))
def test_a_cut_stream_gives_the_first_bits_and_no_wrong_one(
    questions: list[tuple[int, int]], cut: int
) -> None:
    bits = read(written(questions)[:cut], questions)
    assert bits == [bit for bit, _ in questions][: len(bits)]


@given(QUESTIONS)
def test_a_stream_takes_its_entropy_and_a_constant(questions: list[tuple[int, int]]) -> None:
    assert len(written(questions)) <= cost_bits(questions) / 8 + 8


def test_a_cut_leaves_few_bits_open_on_average() -> None:
    """Bits as likely as their odds say: at a cut, some two bits and the next question are lost."""
    rng = np.random.default_rng(0)
    odds = rng.integers(500, ONE - 500, 3000)
    questions = [(int(rng.random() < p / ONE), int(p)) for p in odds]
    data = written(questions, 10_000)
    cuts = range(1, len(data) - 8, 3)
    lost = [8 * cut - cost_bits(questions[: len(read(data[:cut], questions))]) for cut in cuts]
    assert 0 < sum(lost) / len(lost) < 4


@given(st.binary(max_size=80), st.lists(ODDS, max_size=200))
def test_any_bytes_can_be_read(data: bytes, odds: list[int]) -> None:
    bits = read(data, [(0, one) for one in odds])
    assert set(bits) <= {0, 1}


@given(QUESTIONS, st.integers(0, 40))
def test_a_full_writer_keeps_the_beginning(questions: list[tuple[int, int]], room: int) -> None:
    assert written(questions, room) == written(questions)[:room]
