"""Files that are there whole or not at all, whenever the process dies. Local paths only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRAFT_ENDING = ".tmp"


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process in the name: on a cluster, two workers may write one unit at a time, both the same bytes.
    draft = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}{DRAFT_ENDING}")
    try:
        yield draft
        _sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """The whole content, or the file as it was."""
    with drafted(path) as draft:
        draft.write_bytes(data)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The same, as JSON."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def remove_drafts(folder: Path) -> None:
    """What a killed process left behind."""
    for draft in folder.rglob(f".*{DRAFT_ENDING}"):
        draft.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """To the disk, before the name says that it is complete."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
