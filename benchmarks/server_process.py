"""A real server in a process of its own, for measurements: start, wait until it serves, stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """Where it is, who it is, how long it took."""

    target: str
    pid: int
    ready_s: float
    """From the start of the process until it serves: interpreter, imports, model, warm-up."""


@contextmanager
def running_server(model: str, *, threads: int = 1, core: int | None = None) -> Iterator[ServerProcess]:
    """A server on a free port, on one processor if `core` is given. Raises SystemExit if none starts."""
    with tempfile.TemporaryDirectory() as folder:
        port_file, log_file = Path(folder, "ports.json"), Path(folder, "server.log")
        command = [sys.executable, "-m", "serving", "serve", "--port", "0", "--metrics-port", "0"]
        command += ["--port-file", str(port_file), "--model", model, "--threads", str(threads)]
        with log_file.open("wb") as log, on_core(core):
            started_s = time.monotonic()
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            target = _wait_for_target(process, port_file, log_file)
            yield ServerProcess(target, process.pid, time.monotonic() - started_s)
        finally:
            _stop(process)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """This process, and children started in this block, on one processor; back to all of its own after."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait_for_target(process: subprocess.Popen[bytes], port_file: Path, log_file: Path) -> str:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if port_file.exists():
            return str(json.loads(port_file.read_text())["target"])
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}:\n{log_file.read_text()[-2000:]}")
        time.sleep(_POLL_S)
    raise SystemExit(
        f"the server did not serve within {START_TIMEOUT_S:.0f} s:\n{log_file.read_text()[-2000:]}"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
