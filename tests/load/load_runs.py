"""Runs a benchmark of the service in a process of its own and reads what it wrote. For tests.

A process of its own, since gRPC wants one event loop per process and the suite has one already.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_benchmark(name: str, folder: Path, *arguments: str, timeout_s: float = 100) -> dict[str, Any]:
    """The JSON that `python -m benchmarks.NAME` wrote; its page must be there, too."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--results", str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / f"{name}.md").read_text().strip() == done.stdout.strip()
    content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return content
