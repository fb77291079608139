"""docs/client.md shows what runs: each of its snippets, pasted after the first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import authority
from running_server import as_file

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
FIRST, *OTHERS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("snippet", OTHERS, ids=[snippet.split("\n")[0] for snippet in OTHERS])
def test_each_snippet_runs_after_the_first(running, photo, tmp_path, monkeypatch, snippet):
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/a.jpg"):
        (tmp_path / name).write_bytes(as_file(photo, "JPEG"))
    (tmp_path / "ca.pem").write_bytes(authority().cert_pem)
    monkeypatch.setenv("TESSERA_KEY", "tsr_x")
    code = f"{FIRST}\n{snippet}".replace("127.0.0.1:50051", running.server.target)
    code = code.replace("tessera-small-int8", "fake")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    if "encode_many" in snippet:
        assert (tmp_path / "photos" / "a.tsr").exists()
