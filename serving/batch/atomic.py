"""Files that are there whole or not at all, whenever the process or the machine dies. Local paths only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from serving.batch.errors import OutputUnwritable

DRAFT_ENDING = ".tmp"


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well.

    Raises OutputUnwritable for any OSError in the block: what is read there has errors of its own.
    """
    # The process in the name: on a cluster, two workers may write one unit at a time, both the same bytes.
    draft = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}{DRAFT_ENDING}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        _sync(draft)
        draft.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise OutputUnwritable(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
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
    """To the disk: a file before its name says that it is complete, a folder so that the name stays."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
