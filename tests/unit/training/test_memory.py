"""How much memory is free, by the machine and by the container."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training.memory import GIB, _free_container_bytes, check_device, check_host
from training.sources import DataRefused


def test_a_container_says_what_is_left_of_its_limit(tmp_path: Path) -> None:
    assert _free_container_bytes(tmp_path) is None
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert _free_container_bytes(tmp_path) == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert _free_container_bytes(tmp_path) is None


def test_without_a_limit_most_of_the_free_memory_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.memory._free_host_bytes", lambda: 10.0 * GIB)
    check_host(7 * GIB, processes=1, max_gib=None)
    with pytest.raises(
        DataRefused, match=r"take 9 GiB as uint8, and 8 GiB may be used: take fewer \(--limit\)"
    ):
        check_host(9 * GIB, processes=1, max_gib=None)
    check_host(9 * GIB, processes=1, max_gib=9.5)
    with pytest.raises(DataRefused, match="in each of 2 processes"):
        check_host(7 * GIB, processes=2, max_gib=None)


def test_half_of_a_device_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.memory._free_host_bytes", lambda: 10.0 * GIB)
    check_device(4 * GIB, torch.device("cpu"))
    with pytest.raises(DataRefused, match="device_cache needs 6 GiB of cpu, and 5 GiB may be used"):
        check_device(6 * GIB, torch.device("cpu"))


def test_where_nobody_says_what_is_free_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.memory._free_host_bytes", lambda: None)
    check_host(10**15, processes=8, max_gib=None)
    check_device(10**15, torch.device("cpu"))
