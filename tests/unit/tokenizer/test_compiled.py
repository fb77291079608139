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


def test_code_that_can_only_be_read_is_copied_to_where_it_can_be_used(tmp_path: Path) -> None:
    image, cache = tmp_path / "image", tmp_path / "cache"
    made, _ = run(NUMBA_CACHE_DIR=str(image), HOME="")
    files = {file.name for file in image.rglob("*.nb?")}
    assert files
    # As root may write everywhere, a file stands in for a folder that no new one can be made in.
    Path(made).rename(tmp_path / "kept")
    image.rmdir()
    image.write_bytes(b"")
    shipped = tmp_path / "home" / ".cache" / Path(made).name
    shipped.parent.mkdir(parents=True)
    (tmp_path / "kept").rename(shipped)
    folder, answers = run(NUMBA_CACHE_DIR=str(image), XDG_CACHE_HOME=str(cache), HOME=str(tmp_path / "home"))
    assert Path(folder).parent == cache
    assert {file.name for file in Path(folder).rglob("*.nb?")} == files
    assert answers == "[1, 0]"


def test_code_for_a_named_processor_lies_apart_from_code_for_this_one(tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path)}
    native, _ = run(**cache)
    portable, answers = run(**cache, NUMBA_CPU_NAME="generic")
    assert portable != native
    assert answers == "[1, 0]"


def test_without_the_compiler_the_package_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['numba'] = None\n"
        "from tokenizer import TokenizerError\n"
        "import tokenizer.bitstream\n"
        "try:\n    from tokenizer import ImageTokenizer\n"
        "except TokenizerError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'tessera[cpu]'" in done.stdout
