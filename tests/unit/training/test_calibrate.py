"""`python -m training calibrate`: a model on a user's own pictures, whose streams stay the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from generated_pictures import picture

from tokenizer import Coding, ImageTokenizer
from tokenizer.artifact import FILES

KEPT = ("encoder.onnx", "decoder.onnx", "tables.npz")


@pytest.fixture(scope="module", params=[(), ("--refit",)], ids=["margins", "refit"])
def calibrated(
    request: pytest.FixtureRequest,
    tiny_artifact: Path,
    picture_folder: Path,
    export_command: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("models") / "calibrated"
    inputs = ("--model", tiny_artifact, "--data", picture_folder, "--limit", 8)
    assert "calibrated_on" in export_command("calibrate", *inputs, "--out", out, *request.param)
    return out


def test_streams_can_be_exchanged_with_the_original(tiny_tokenizer: ImageTokenizer, calibrated: Path) -> None:
    tokenizer = ImageTokenizer.from_pretrained(calibrated)
    pixels = picture(5, 64, 64)
    (ours,), (theirs,) = tokenizer.encode([pixels]), tiny_tokenizer.encode([pixels])
    assert ours == theirs
    assert (tokenizer.decode([theirs])[0] == tiny_tokenizer.decode([ours])[0]).all()


def test_only_the_head_and_its_margins_change(tiny_artifact: Path, calibrated: Path) -> None:
    changed = {
        name for name in FILES if (calibrated / name).read_bytes() != (tiny_artifact / name).read_bytes()
    }
    assert "config.json" in changed and not changed & set(KEPT)


def test_the_manifest_says_on_how_many_pictures(calibrated: Path) -> None:
    facts = json.loads((calibrated / "manifest.json").read_text())["halting"]
    assert 0 < facts["calibrated_on"] <= 8
    assert all(facts[f"mean_absolute_error_db_{coding}"] > 0 for coding in Coding)
