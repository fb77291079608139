"""Pictures come from a folder or from a tar shard."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pictures import load_pictures


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_shard_gives_the_same_pictures_as_a_folder(tmp_path: Path) -> None:
    folder, shard = tmp_path / "folder", tmp_path / "shard.tar"
    folder.mkdir()
    with tarfile.open(shard, "w") as archive:
        for name, content in (("a.png", png(10)), ("b.png", png(20)), ("notes.txt", b"no picture")):
            (folder / name).write_bytes(content)
            archive.add(folder / name, name)
    from_folder, from_shard = (load_pictures(images, crop_px=16) for images in (folder, shard))
    assert [one.digest for one in from_folder] == [one.digest for one in from_shard]
    assert [(one.name, one.pixels.shape) for one in from_shard] == [
        ("a.png", (16, 16, 3)),
        ("b.png", (16, 16, 3)),
    ]
    assert len(load_pictures(shard, limit=1)) == 1


def test_no_pictures_is_said_at_once(tmp_path: Path) -> None:
    for images in (tmp_path, tmp_path / "missing.tar"):
        with pytest.raises(SystemExit, match=str(images)):
            load_pictures(images)
