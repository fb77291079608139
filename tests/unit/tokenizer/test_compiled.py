"""Machine code on disk: a place that fails costs time, never a decode."""

from __future__ import annotations

import os
import shutil
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where code was compiled into; tests that change it take a copy."""
    home = tmp_path_factory.mktemp("compiled")
    folder, answers = run(NUMBA_CACHE_DIR=str(home / "cache"), HOME=str(home / "home"))
    assert answers == "[1, 0]"
    return Path(folder)


def test_code_lies_where_numba_is_told_to_keep_it(made: Path) -> None:
    assert made.parent.name == "cache"
    assert not (made.parents[1] / "home").exists()


def test_damaged_files_are_compiled_anew(made: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(made, tmp_path / made.name)
    files = [file for file in copy.rglob("*.nb?") if file.is_file()]
    assert files
    for file in files:
        file.write_bytes(b"")
    assert run(NUMBA_CACHE_DIR=str(tmp_path), HOME=str(tmp_path)) == [str(copy), "[1, 0]"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_to_is_passed_over(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    folder, answers = run(HOME=str(tmp_path))
    assert not folder.startswith(str(tmp_path))
    assert answers == "[1, 0]"


def test_no_home_at_all_is_no_error() -> None:
    _, answers = run(HOME="")
    assert answers == "[1, 0]"


def test_code_that_can_only_be_read_is_copied_to_where_it_can_be_used(made: Path, tmp_path: Path) -> None:
    image, cache = tmp_path / "image", tmp_path / "cache"
    files = {file.name for file in made.rglob("*.nb?")}
    assert files
    # As root may write everywhere, a file stands in for a folder that no new one can be made in.
    image.write_bytes(b"")
    shutil.copytree(made, tmp_path / "home" / ".cache" / made.name)
    folder, answers = run(NUMBA_CACHE_DIR=str(image), XDG_CACHE_HOME=str(cache), HOME=str(tmp_path / "home"))
    assert Path(folder).parent == cache
    assert {file.name for file in Path(folder).rglob("*.nb?")} == files
    assert answers == "[1, 0]"


def test_code_for_a_named_processor_lies_apart_from_code_for_this_one(made: Path, tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path), "HOME": str(tmp_path)}
    portable, answers = run(**cache, NUMBA_CPU_NAME="generic")
    assert Path(portable).parent == tmp_path and Path(portable).name != made.name
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
