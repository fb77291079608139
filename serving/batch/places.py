"""Files on this machine, or behind an fsspec URL where that package is installed. Knows no pictures."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from serving.batch.errors import PackageMissing, SourceRefused

# Enough that a new version of a file shows, and little enough for a thousand files over a network.
_IDENTITY_BYTES = 65_536


def is_url(place: str) -> bool:
    """True for `scheme://...`.

    >>> is_url("s3://bucket/a.tar"), is_url("/data/a.tar")
    (True, False)
    """
    return "://" in place


def open_read(place: str) -> IO[bytes]:
    """The file, seekable. Raises OSError, or PackageMissing for a URL without fsspec."""
    if not is_url(place):
        return open(place, "rb")
    return cast(IO[bytes], _filesystem(place).open(place, "rb"))


def read_all(place: str) -> bytes:
    """All bytes of a file."""
    with open_read(place) as file:
        return file.read()


def is_folder(place: str) -> bool:
    """True for a folder that exists."""
    return bool(_filesystem(place).isdir(place)) if is_url(place) else Path(place).is_dir()


def exists(place: str) -> bool:
    """True for anything that exists."""
    return bool(_filesystem(place).exists(place)) if is_url(place) else Path(place).exists()


def join(folder: str, member: str) -> str:
    """A path below a folder or URL."""
    return f"{folder.rstrip('/')}/{member}"


def walk(folder: str) -> Iterator[tuple[str, int]]:
    """(path below the folder, size in bytes) of every file, sorted folder by folder; memory of one folder."""
    if is_url(folder):
        yield from _walk_url(folder)
        return
    for root, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        folders.sort()
        for name in sorted(files):
            path = Path(root, name)
            yield path.relative_to(folder).as_posix(), path.stat().st_size if path.exists() else -1


def identity(place: str) -> str:
    """Size and a hash of both ends: what tells one version of a file from another."""
    with open_read(place) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        head = file.read(_IDENTITY_BYTES)
        file.seek(max(0, size - _IDENTITY_BYTES))
        return f"{size}-{hashlib.sha256(head + file.read()).hexdigest()[:16]}"


def _walk_url(folder: str) -> Iterator[tuple[str, int]]:
    filesystem = _filesystem(folder)
    root = filesystem._strip_protocol(folder).rstrip("/")
    for path, facts in sorted(filesystem.find(folder, detail=True).items()):
        yield path[len(root) :].lstrip("/"), int(facts.get("size") or 0)


def _filesystem(url: str) -> Any:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise PackageMissing(f"{url} needs fsspec: pip install fsspec") from error
    try:
        return url_to_fs(url)[0]
    except (ImportError, ValueError) as error:
        raise PackageMissing(f"{url}: {error}") from error


def _refuse(error: OSError) -> None:
    raise SourceRefused(f"cannot list {error.filename}: {error.strerror}") from error
