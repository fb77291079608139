"""Machine code on disk: a place that fails costs time, never a decode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DECODE = """
import tokenizer.compiled as compiled
from tokenizer.range_coder import bit_reader, read_bit
print(compiled.FOLDER)
print([read_bit(bit_reader(bytes((k,)) * 9), 30_000) for k in (3, 250)])
"""


def run(**environment: str) -> list[str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-c", DECODE]
    done = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_code_lies_where_numba_is_told_to_keep_it(tmp_path: Path) -> None:
    folder, answers = run(NUMBA_CACHE_DIR=str(tmp_path), HOME=str(tmp_path / "home"))
    assert Path(folder).parent == tmp_path
    assert answers == "[1, 0]"


def test_damaged_files_are_compiled_anew(tmp_path: Path) -> None:
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path)}
    before = run(**environment)
    files = [file for file in tmp_path.rglob("*.nb?") if file.is_file()]
    assert files
    for file in files:
        file.write_bytes(b"")
    assert run(**environment) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_to_is_passed_over(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    folder, answers = run(HOME=str(tmp_path))
    assert not folder.startswith(str(tmp_path))
    assert answers == "[1, 0]"


def test_no_home_at_all_is_no_error() -> None:
    _, answers = run(HOME="")
    assert answers == "[1, 0]"
