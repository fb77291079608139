"""An undisturbed job that the others are held against."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_process import run, write_pictures

UNITS, MANY_UNITS, UNIT_PICTURES = 12, 24, 3


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough for twelve units of three."""
    return write_pictures(tmp_path_factory.mktemp("batch") / "pictures", UNITS * UNIT_PICTURES)


@pytest.fixture(scope="session")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough for 24 units of three: room for ten kills, and for a disk to get full."""
    return write_pictures(tmp_path_factory.mktemp("batch") / "pictures", MANY_UNITS * UNIT_PICTURES)


@pytest.fixture(scope="session")
def undisturbed(pictures: Path) -> Path:
    """The folder of a job that nobody stopped."""
    out = pictures.parent / "undisturbed"
    code, _, errors = run(pictures, "--out", out, "--shard-size", UNIT_PICTURES, "--workers", 2)
    assert code == 0, errors
    return out
