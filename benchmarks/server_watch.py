"""A server process from outside: its metrics, its memory, threads and descriptors, its health probes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.memory import resident_mib
from benchmarks.server_process import ServerProcess

_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Samples:
    """One scrape of /metrics."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def sum(self, name: str, **labels: str) -> float:
        """Of all series of this name with these labels."""
        wanted = labels.items()
        return sum(
            value for (found, pairs), value in self.values.items() if found == name and wanted <= pairs
        )


def scrape(server: ServerProcess) -> Samples:
    """What /metrics says now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10) as reply:
        lines = (_LINE.fullmatch(line) for line in reply.read().decode().splitlines())
        return Samples(
            {(line[1], frozenset(_LABEL.findall(line[2] or ""))): float(line[3]) for line in lines if line}
        )


@dataclass(frozen=True, slots=True)
class ProcessSize:
    """What a leak would show in."""

    resident_mib: float
    threads: int
    descriptors: int


def process_size(pid: int) -> ProcessSize:
    """Now, from /proc."""
    tasks, descriptors = (list(Path(f"/proc/{pid}/{name}").iterdir()) for name in ("task", "fd"))
    return ProcessSize(round(resident_mib(pid), 2), len(tasks), len(descriptors))


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """True once it holds; False if it never did."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.05)
    return True


@dataclass(slots=True)
class ProbeLog:
    """Probes of one kind after the other; filled when the block of `probing` ends."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Probes that were made."""
        return sum(map(len, self.seconds.values()))

    @property
    def slowest_ms(self) -> float:
        """Of those that succeeded or failed alike."""
        return 1000 * max((max(times) for times in self.seconds.values() if times), default=0.0)


@contextmanager
def probing(server: ServerProcess, interval_s: float = 1.0) -> Iterator[ProbeLog]:
    """Health checks as a kubelet makes them, from a process of their own."""
    log = ProbeLog()
    command = [sys.executable, "-m", "benchmarks.health_probes", server.target, str(server.metrics_port)]
    with subprocess.Popen([*command, str(interval_s)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        child.stdout.readline()  # it imports gRPC first
        try:
            yield log
        finally:
            child.send_signal(signal.SIGTERM)
            out, _ = child.communicate(timeout=30)
            found = json.loads(out)
            log.seconds, log.failures = found["seconds"], found["failures"]
