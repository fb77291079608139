"""Files that change under us: a value is taken whole and good, or not at all."""

from __future__ import annotations

import os

import pytest

from serving.reloaded_files import ReloadedFiles, SetupError


@pytest.fixture
def pair(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text("1")
    return tmp_path / "one", tmp_path / "two"


def equal(contents: tuple[bytes, ...]) -> bytes:
    """Stands for a pair that belongs together."""
    if len(set(contents)) != 1:
        raise SetupError("they differ")
    return contents[0]


def test_a_pair_that_is_replaced_while_it_is_read_is_read_again(pair):
    reports: list[bool] = []
    files = ReloadedFiles("pair", pair, equal, reports.append)
    pair[0].write_text("22")

    class ReplacedMeanwhile(type(pair[1])):
        def read_bytes(self) -> bytes:
            before = super().read_bytes()
            if before == b"1":
                pair[1].write_text("22")
            return before

    files._paths = (pair[0], ReplacedMeanwhile(pair[1]))
    files.refresh()
    assert (files.value, reports) == (b"22", [True])


def test_a_parser_that_trips_is_a_failure_like_any_other(pair):
    def parse(contents: tuple[bytes, ...]) -> bytes:
        if contents[0] != b"1":
            raise ZeroDivisionError("secret content")
        return contents[0]

    reports: list[bool] = []
    files = ReloadedFiles("pair", pair, parse, reports.append)
    pair[0].write_text("22")
    files.refresh()
    assert (files.value, reports) == (b"1", [False])
    pair[0].write_text("22")
    with pytest.raises(SetupError, match=r"cannot use pair: ZeroDivisionError$"):
        ReloadedFiles("pair", pair, parse, reports.append)


def test_files_are_parsed_only_when_they_changed_or_failed(pair):
    parsed: list[int] = []

    def parse(contents: tuple[bytes, ...]) -> bytes:
        parsed.append(1)
        return equal(contents)

    files = ReloadedFiles("pair", pair, parse, lambda taken: None)
    for _ in range(5):
        files.refresh(retry=True)
    assert len(parsed) == 1
    pair[0].write_text("22")
    for _ in range(5):
        files.refresh()
    assert len(parsed) == 2
    files.refresh(retry=True)
    assert len(parsed) == 3


def test_a_change_that_keeps_size_and_time_is_seen_by_its_new_file(pair):
    files = ReloadedFiles("pair", pair[:1], equal, lambda taken: None)
    facts = pair[0].stat()
    draft = pair[0].with_suffix(".tmp")
    draft.write_text("2")
    os.utime(draft, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    draft.replace(pair[0])
    files.refresh()
    assert files.value == b"2"


def test_files_are_current_again_when_the_old_ones_come_back(pair):
    reports: list[bool] = []
    files = ReloadedFiles("pair", pair, equal, reports.append)
    aside = pair[0].with_suffix(".aside")
    pair[0].replace(aside)
    for _ in range(3):
        files.refresh(retry=True)
        assert not files.is_current
    aside.replace(pair[0])
    files.refresh(retry=True)
    assert files.is_current and reports == [False]
