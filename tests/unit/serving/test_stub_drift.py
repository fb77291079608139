"""The committed stubs are what the .proto files say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROTO = Path(__file__).parents[3] / "proto"
# The exit code with which generate.sh says that its pinned compiler cannot be had here.
NO_COMPILER = 3


@pytest.fixture
def fresh(tmp_path: Path) -> dict[Path, str]:
    """What the pinned compiler writes now."""
    command = ["sh", str(PROTO / "generate.sh"), str(tmp_path)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, timeout=100, capture_output=True, text=True, check=False)
    if done.returncode == NO_COMPILER:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.py*")}


def test_the_stubs_are_those_that_the_proto_files_generate(fresh):
    assert len(fresh) == 9
    for path, text in fresh.items():
        assert (PROTO / path).read_text() == text, f"{path} is stale: run `make proto`"


def test_the_stubs_ask_for_no_runtime_version():
    """Such a check refuses older runtimes, and from protobuf 5 on also those two majors newer."""
    for path in (PROTO / "tessera").rglob("*_pb2*.py"):
        text = path.read_text()
        assert "runtime_version" not in text and "GRPC_GENERATED_VERSION" not in text, path.name
