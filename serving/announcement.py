"""Telling where the server listens: a line on stdout, and the port file. Knows no gRPC."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Address:
    """Where one port of the server is."""

    host: str
    port: int

    @property
    def target(self) -> str:
        """As a client on this machine writes it."""
        everywhere = self.host in ("", "0.0.0.0", "[::]", "::")
        return f"{'127.0.0.1' if everywhere else self.host}:{self.port}"


def announce(rpcs: Address, metrics: Address, admin: Address | None, port_file: Path | None) -> None:
    """Say on stdout, and in the port file, where the server is."""
    line = f"tessera serves on {rpcs.target}, metrics on http://{metrics.target}/metrics"
    facts: dict[str, object] = {"target": rpcs.target, "port": rpcs.port, "metrics_port": metrics.port}
    if admin is not None:
        line += f", administration on {admin.target}"
        facts |= {"admin_target": admin.target, "admin_port": admin.port}
    print(line, flush=True)
    if port_file is not None:
        _write_atomically(port_file, json.dumps(facts) + "\n")


def _write_atomically(path: Path, text: str) -> None:
    """A reader sees the whole file or none."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(text)
    draft.replace(path)
