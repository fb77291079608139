"""Tar shards for measurements of batch jobs."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

SHARD_PICTURES = 500


def write_shards(folder: Path, pictures: Iterator[tuple[str, bytes]]) -> list[Path]:
    """Files of `SHARD_PICTURES` each, keys numbered through."""
    folder.mkdir(parents=True)
    shards, number = [], 0
    while part := list(islice(pictures, SHARD_PICTURES)):
        shards.append(folder / f"{len(shards):05d}.tar")
        with tarfile.open(shards[-1], "w") as shard:
            for ending, data in part:
                member = tarfile.TarInfo(f"{number:08d}{ending}")
                member.size, number = len(data), number + 1
                shard.addfile(member, io.BytesIO(data))
    return shards
