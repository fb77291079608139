"""A real server in a process of its own, for measurements: start, wait until it serves, stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02
_FAKE_SERVER = Path(__file__).parents[1] / "tests" / "e2e" / "serve_fake.py"


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """Where it is, who it is, how long it took."""

    target: str
    metrics_port: int
    process: subprocess.Popen[bytes]
    log_file: Path
    """What it said on stdout and stderr; gone after the block."""

    ready_s: float
    """From the start of the process until it serves: interpreter, imports, model, warm-up."""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid


@contextmanager
def running_server(
    model: str,
    *,
    threads: int = 1,
    core: int | None = None,
    settings: Mapping[str, object] | None = None,
) -> Iterator[ServerProcess]:
    """A server on a free port, on one processor if `core` is given. Raises SystemExit if none starts.

    `settings` are further ones of ServingConfig, by name.
    """
    command = [sys.executable, "-m", "serving", "serve", "--port", "0", "--metrics-port", "0"]
    command += ["--model", model, "--threads", str(threads)]
    with _started(lambda port_file: [*command, "--port-file", str(port_file)], core, settings) as server:
        yield server


@contextmanager
def running_fake_server(
    seconds_per_call: float,
    *,
    core: int | None = None,
    settings: Mapping[str, object] | None = None,
) -> Iterator[ServerProcess]:
    """The same server around a tokenizer that sleeps: what the service does, whatever the model does."""
    command = [sys.executable, str(_FAKE_SERVER)]
    with _started(lambda file: [*command, str(file), str(seconds_per_call)], core, settings) as server:
        yield server


@contextmanager
def running_echo_server(reply_bytes: int, *, core: int | None = None) -> Iterator[ServerProcess]:
    """gRPC alone: every call is answered with so many bytes, and nothing is done for it."""
    command = [sys.executable, "-m", "benchmarks.echo_server"]
    with _started(lambda file: [*command, str(file), str(reply_bytes)], core, None) as server:
        yield server


@contextmanager
def _started(command, core: int | None, settings: Mapping[str, object] | None) -> Iterator[ServerProcess]:
    environment = os.environ | {
        f"TESSERA_{name.upper()}": str(value) for name, value in (settings or {}).items()
    }
    with tempfile.TemporaryDirectory() as folder:
        port_file, log_file = Path(folder, "ports.json"), Path(folder, "server.log")
        with log_file.open("wb") as log, on_core(core):
            started_s = time.monotonic()
            process = subprocess.Popen(
                command(port_file), stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        try:
            ports = _wait_for_ports(process, port_file, log_file)
            ready_s = time.monotonic() - started_s
            yield ServerProcess(ports["target"], ports["metrics_port"], process, log_file, ready_s)
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


def _wait_for_ports(process: subprocess.Popen[bytes], port_file: Path, log_file: Path) -> dict:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if port_file.exists():
            return json.loads(port_file.read_text())
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
