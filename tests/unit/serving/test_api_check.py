"""proto/check.sh: what it says where it cannot check, and that it finds what it is there for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def check(root: Path, **options) -> subprocess.CompletedProcess:
    command = ["/bin/sh", str(root / "proto" / "check.sh")]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, **options)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The API files with the tools that are installed already."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    if check(ROOT).returncode != 0 and not (ROOT / ".proto-tools").exists():
        pytest.skip("npm cannot install buf here")
    for name in ("proto", "third_party"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    (tmp_path / ".proto-tools").symlink_to(ROOT / ".proto-tools")
    return tmp_path


def test_without_npm_it_says_that_nothing_was_checked_and_goes_on(tmp_path):
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))  # all that the script needs before it looks
    done = check(ROOT, env={"PATH": str(tmp_path)})
    assert done.returncode == 0
    assert "buf did NOT check" in done.stderr


def test_the_api_as_it_is_passes(copy):
    done = check(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("int32 max_preview_count = 8;", "int32 max_preview_count = 40;", "was deleted"),
        ("int32 max_preview_count = 8;", "int64 max_preview_count = 8;", "changed type"),
        ("int32 max_preview_count = 8;", "int32 MaxPreviews = 8;", "lower_snake_case"),
        ("  int32 max_preview_count = 8;", "    int32   max_preview_count = 8;", "-    int32"),
    ],
)
def test_what_breaks_a_client_or_a_rule_is_found(copy, old, new, complaint):
    path = copy / "proto" / "tessera" / "v1" / "model_service.proto"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    done = check(copy)
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr
