"""`python -m training recode`: a model with new tables of the range coding, and its sibling with the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from generated_pictures import picture

from tokenizer import Coding, ImageTokenizer
from tokenizer.artifact import FILES, ModelArtifact, sha256
from tokenizer.errors import FingerprintMismatch
from training.recode import RecodeError, recode

KEPT = ("encoder.onnx", "decoder.onnx", "halting.onnx", "tables.npz")


@pytest.fixture(scope="module")
def unreadable(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with tables of another release."""
    folder = tmp_path_factory.mktemp("models") / "unreadable"
    shutil.copytree(tiny_artifact, folder)
    (folder / "contexts.npz").write_bytes(b"no tables")
    edit_manifest(folder, lambda manifest: manifest["files"].update({"contexts.npz": sha256(b"no tables")}))
    return folder


@pytest.fixture(scope="module")
def recoded(
    unreadable: Path,
    picture_folder: Path,
    training_command: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("models") / "recoded"
    inputs = ("--model", unreadable, "--data", picture_folder, "--limit", 4, "--steps", 60)
    assert "calibrate --held-out" in training_command("recode", *inputs, "--out", out, "--version", "9.0.0")
    return out


def edit_manifest(folder: Path, edit: Callable[[dict], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_only_the_tables_of_the_range_coding_change(tiny_artifact: Path, recoded: Path) -> None:
    changed = {name for name in FILES if (recoded / name).read_bytes() != (tiny_artifact / name).read_bytes()}
    assert changed == {"config.json", "contexts.npz"} and not changed & set(KEPT)
    before, after = ModelArtifact.load(tiny_artifact), ModelArtifact.load(recoded)
    assert after.config.version == "9.0.0"
    assert before.fingerprint != after.fingerprint and before.digest != after.digest
    # What was measured on the range coding no longer holds.
    assert set(after.manifest["rate_distortion"]) == {"fixed"}
    fit = after.manifest["recipe"]["contexts"]
    assert (fit["pictures"], fit["steps"]) == (4, 60)


def test_a_recoded_model_reads_its_own_streams_only(tiny_tokenizer: ImageTokenizer, recoded: Path) -> None:
    tokenizer = ImageTokenizer.from_pretrained(recoded)
    pixels = picture(5, 64, 64)
    (ours,), (theirs,) = tokenizer.encode([pixels]), tiny_tokenizer.encode([pixels])
    assert tokenizer.decode([ours])[0].shape == pixels.shape
    with pytest.raises(FingerprintMismatch):
        tokenizer.decode([theirs])


def test_a_sibling_takes_tables_and_margins(unreadable: Path, recoded: Path, tmp_path: Path) -> None:
    fingerprint = recode(str(unreadable), (), tmp_path / "sibling", "9.0.0", like=str(recoded))
    sibling, source = ModelArtifact.load(tmp_path / "sibling"), ModelArtifact.load(recoded)
    assert fingerprint == sibling.fingerprint == source.fingerprint
    assert sibling.config.margin_scores == source.config.margin_scores
    assert sibling.manifest["rate_distortion"] == source.manifest["rate_distortion"]


def test_a_stranger_is_no_sibling(recoded: Path, unreadable: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    shutil.copytree(unreadable, stranger)
    (stranger / "halting.onnx").write_bytes(b"another head")
    edit_manifest(
        stranger, lambda manifest: manifest["files"].update({"halting.onnx": sha256(b"another head")})
    )
    with pytest.raises(RecodeError, match=r"no sibling: it has another halting\.onnx"):
        recode(str(stranger), (), tmp_path / "out", "9.0.0", like=str(recoded))


def test_a_layout_without_a_range_coding_is_refused(recoded: Path, tmp_path: Path) -> None:
    shutil.copytree(recoded, tmp_path / "registers")
    text = (recoded / "config.json").read_text().replace('"layout":"spectral"', '"layout":"register"')
    (tmp_path / "registers" / "config.json").write_text(text)
    edit_manifest(
        tmp_path / "registers",
        lambda manifest: manifest["files"].update({"config.json": sha256(text.encode())}),
    )
    with pytest.raises(RecodeError, match="'register', which has no range coding"):
        recode(str(tmp_path / "registers"), (), tmp_path / "out", "9.0.0", like=str(recoded))


def test_a_manifest_without_a_fit_is_refused(recoded: Path, tmp_path: Path) -> None:
    shutil.copytree(recoded, tmp_path / "unknown")
    edit_manifest(tmp_path / "unknown", lambda manifest: manifest["recipe"].pop("contexts"))
    with pytest.raises(RecodeError, match="how its tables were fitted: KeyError"):
        recode(str(tmp_path / "unknown"), ("pictures",), tmp_path / "out", "9.0.0")


def test_margins_are_taken_on_the_held_out_split_of_its_own_data(
    recoded: Path, picture_folder: Path, training_command: Callable[..., str], tmp_path: Path
) -> None:
    inputs = ("--model", recoded, "--data", picture_folder, "--held-out", "--coding", "range")
    training_command("calibrate", *inputs, "--out", tmp_path)
    before, after = ModelArtifact.load(recoded), ModelArtifact.load(tmp_path)
    assert after.config.margin_scores["range"] != before.config.margin_scores["range"]
    assert after.config.margin_scores["fixed"] == before.config.margin_scores["fixed"]
    assert after.manifest["rate_distortion"]["range"]["tokens"] == list(after.config.candidate_lengths)
    assert (
        after.manifest["halting"]["calibrated_on"] == after.manifest["rate_distortion"]["range"]["pictures"]
    )
    assert set(after.manifest["rate_distortion"]) == set(Coding)
