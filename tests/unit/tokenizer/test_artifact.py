"""A model folder is used as a whole and unaltered, or not at all; so are execution providers."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy_codec import formula_tables

from tokenizer import ImageTokenizer
from tokenizer.artifact import FILES, ModelArtifact, sha256, shipped, tables_from_bytes, tables_to_bytes
from tokenizer.coding import Coding
from tokenizer.config import TokenizerConfig
from tokenizer.contexts import ContextTables
from tokenizer.errors import ArtifactError, ProviderError
from tokenizer.onnx_session import OnnxSession
from tokenizer.spectral import SpectralTables
from training.context_model import starting_tables


@pytest.fixture
def folder(tiny_artifact: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_artifact, tmp_path / "copy"))


def change_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_whole_folder_loads(tiny_artifact: Path) -> None:
    artifact = ModelArtifact.load(str(tiny_artifact))
    assert artifact.config.name == "tiny"
    assert len(artifact.fingerprint) == 8


def test_tables_whose_gain_rises_are_refused_with_group_and_plane(folder: Path) -> None:
    tables = ModelArtifact.load(folder).tables
    # What a fit could not write: it is put there behind the check.
    tables.gain[2, 3] = tables.gain[2, 2] + 5
    data = tables_to_bytes(tables)
    (folder / "tables.npz").write_bytes(data)
    change_manifest(folder, lambda manifest: manifest["files"].update({"tables.npz": sha256(data)}))
    with pytest.raises(ArtifactError, match=r"gain of group 2 must not rise .* plane 3 has"):
        ModelArtifact.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_refused(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match=f"{name} is not the file that the manifest names"):
        ModelArtifact.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"lacks {name}"):
        ModelArtifact.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"files": {}}', '{"digest": "00"}'])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        ModelArtifact.load(folder)


def test_a_manifest_with_a_short_digest_is_refused(folder: Path) -> None:
    change_manifest(folder, lambda manifest: manifest.update(digest="abcd"))
    with pytest.raises(ArtifactError, match="lacks file hashes, digest"):
        ModelArtifact.load(folder)


def test_a_manifest_without_a_file_is_refused(folder: Path) -> None:
    change_manifest(folder, lambda manifest: manifest["files"].pop("decoder.onnx"))
    with pytest.raises(ArtifactError, match=r"decoder\.onnx"):
        ModelArtifact.load(folder)


def test_tables_that_are_no_archive_are_refused(folder: Path) -> None:
    """Also with a manifest that agrees with the damage."""
    (folder / "tables.npz").write_bytes(b"PK nonsense")
    change_manifest(folder, lambda manifest: manifest["files"].update({"tables.npz": sha256(b"PK nonsense")}))
    with pytest.raises(ArtifactError, match="SpectralTables cannot be read"):
        ModelArtifact.load(folder)


@pytest.mark.parametrize("name", ["no-such-model", "", "../tokenizer", "/"])
def test_an_unknown_name_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="no model"):
        ImageTokenizer.from_pretrained(name)


def test_the_error_for_an_unknown_name_lists_the_shipped_models() -> None:
    with pytest.raises(ArtifactError) as caught:
        ModelArtifact.load("no-such-model")
    assert all(name in str(caught.value) for name in shipped())


@pytest.mark.parametrize("tables", [formula_tables(), starting_tables()], ids=["spectral", "contexts"])
def test_tables_survive_their_file(tables: SpectralTables | ContextTables) -> None:
    again = tables_from_bytes(type(tables), tables_to_bytes(tables))
    for name in tables.__slots__:
        assert np.array_equal(getattr(again, name), getattr(tables, name))
        assert getattr(again, name).dtype == getattr(tables, name).dtype


CONFIG = TokenizerConfig("tiny", "1.0", "spectral", (4, 8), {"range": {"0.9": 1.5}})


def test_a_config_survives_its_json() -> None:
    assert TokenizerConfig.from_json(CONFIG.to_json()) == CONFIG
    assert CONFIG.scores(Coding.RANGE) == {0.9: 1.5}
    assert CONFIG.scores(Coding.FIXED) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 1},
        {"preprocess_version": 0},
        {"layout": "words"},
        {"precision": "fp16"},
        {"candidate_lengths": [8, 4]},
        {"margin_scores": {"0.9": 1.0}},
        {"margin_scores": {"range": {"0.9": [1.0]}}},
        {"margin_scores": {"range": {"most": 1.5}}},
        {"margin_scores": {"other": {"0.9": 1.5}}},
        {"margin_scores": 0.5},
        {"surprise": 1},
    ],
)
def test_a_config_of_another_kind_is_refused(change: dict) -> None:
    text = json.dumps({**json.loads(CONFIG.to_json()), **change})
    with pytest.raises(ArtifactError):
        TokenizerConfig.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"candidate_lengths": 5}'])
def test_a_config_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        TokenizerConfig.from_json(text)


@pytest.mark.parametrize("providers", [(), ("tpu",), ("cpu", "tpu")])
def test_an_unknown_provider_is_refused(tiny_artifact: Path, providers: tuple[str, ...]) -> None:
    with pytest.raises(ProviderError, match="providers must be among cpu, cuda"):
        ImageTokenizer.from_pretrained(tiny_artifact, providers=providers)


def test_a_provider_that_is_not_there_is_no_silent_fallback(
    tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="CUDAExecutionProvider is not in this ONNX Runtime"):
        ImageTokenizer.from_pretrained(tiny_artifact, providers=("cuda", "cpu"))


def test_a_provider_that_gives_way_is_noticed(tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists a provider whose libraries it then fails to load, and takes the CPU."""

    class GivesWay:
        def __init__(self, *_: object, **__: object) -> None: ...

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", GivesWay)
    with pytest.raises(ProviderError, match="gave CPUExecutionProvider"):
        OnnxSession(b"", ("cuda", "cpu"))


def test_a_missing_runtime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match=r"pip install 'tessera\[cpu\]'"):
        OnnxSession(b"")
