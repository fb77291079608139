"""The committed stubs are what the .proto files say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROTO = Path(__file__).parents[3] / "proto"


def test_the_stubs_are_those_that_the_proto_files_generate(tmp_path):
    pytest.importorskip("grpc_tools")
    command = ["sh", str(PROTO / "generate.sh"), str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable}, timeout=100)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.py*")}
    assert len(fresh) == 12
    for path, text in fresh.items():
        assert (PROTO / path).read_text() == text, f"{path} is stale: run `make proto`"
