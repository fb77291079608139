"""A command whose output nobody reads ends as `cat` does, and blames no input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_fakes import Ran


@pytest.mark.parametrize(
    "arguments", [("truncate", "a.tsr", "--max-bytes", "50", "-o", "-"), ("info", "a.tsr")]
)
def test_a_reader_that_has_gone_ends_the_command_quietly(folder: Path, arguments: tuple[str, ...]) -> None:
    Ran("encode", "a.png")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "serving", *arguments]
    with os.fdopen(writer, "wb") as stdout:
        ended = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (141, b"")
