"""Fixtures of the command's tests: a fake default model, and a folder with pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_fakes import ThumbnailTokenizer
from PIL import Image

from tokenizer import ImageTokenizer
from tokenizer.errors import ArtifactError


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_pretrained(name: str, **_: object) -> ThumbnailTokenizer:
        if name != "default":
            raise ArtifactError(f"there is no model {name}")
        return ThumbnailTokenizer()

    monkeypatch.setattr(ImageTokenizer, "from_pretrained", from_pretrained)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two good pictures and a bad one."""
    monkeypatch.chdir(tmp_path)
    for name, size in (("a.png", (60, 40)), ("b.jpg", (33, 50))):
        Image.linear_gradient("L").resize(size).convert("RGB").save(name)
    Path("bad.png").write_bytes(b"<html>")
    return tmp_path
