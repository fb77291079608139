"""What a job folder holds, so that only the same job goes on in it.

manifest.json   options, model, plan        written first, never changed
reports/N.json  a unit that is done         written after its shard
.lock           held while a process works on the job
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.batch.atomic import write_json
from serving.batch.errors import JobLocked, JobMismatch
from serving.batch.options import JobOptions
from serving.batch.units import Plan

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """The identity of a job."""

    options: JobOptions
    model: dict[str, str]
    """Name, version, fingerprint and digest."""
    plan: Plan

    def as_json(self) -> dict[str, Any]:
        """The content of the file."""
        options = self.options
        facts = {"options": options.as_json(), "model": self.model, "plan": asdict(self.plan)}
        # Through JSON, so that a tuple equals the list that is read back.
        return {"format_version": FORMAT_VERSION, "command": options.command, **json.loads(json.dumps(facts))}


def begin(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, or check that the folder's is this one. Raises JobMismatch, OSError."""
    path = folder / MANIFEST
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        if strangers := sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")):
            raise JobMismatch(f"{folder} holds {strangers[0]} but no {MANIFEST}: choose an empty folder")
        write_json(path, manifest.as_json())
        return
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise JobMismatch(f"{path} is damaged: {error}") from error
    if different := list(_differences(found, manifest.as_json())):
        raise JobMismatch(
            f"{folder} holds another job; it differs in {'; '.join(different[:5])}. "
            "Choose another folder, or the options of that job"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """This process alone works on the job. Raises JobLocked. The lock goes with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JobLocked(f"another process works on {folder}") from error
        yield


def _differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Places where two JSON values differ, as `options.coding (null there, "fixed" here)`."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in {**found, **wanted}:
            yield from _differences(found.get(name), wanted.get(name), f"{path}.{name}" if path else name)
    elif found != wanted:
        yield f"{path} ({json.dumps(found)[:80]} there, {json.dumps(wanted)[:80]} here)"
