"""A run can begin with a finished model: the same tables, the same decodes, then its own way."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_pictures import picture

from tokenizer import Coding, ImageTokenizer, Size, TokenBudget
from tokenizer.artifact import sha256
from tokenizer.errors import ArtifactError
from training.checkpoint import load_checkpoint
from training.data import PictureSet
from training.precision import autocast
from training.recipes import debug_tiny, register_debug
from training.register_trainer import RegisterTrainer
from training.start import StartRefused, load_start
from training.trainer import Trainer


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    made = tuple(picture(seed, 64, 80) for seed in range(300, 308))
    return PictureSet(tuple(str(number) for number in range(len(made))), made)


def test_a_run_begins_where_the_model_ends(
    tiny_artifact: Path, tiny_tokenizer: ImageTokenizer, pictures: PictureSet, tmp_path: Path
) -> None:
    """Encoder and decoder network of the trainer do what the graphs do, before the first step."""
    trainer = Trainer(debug_tiny(), pictures, tmp_path, start=tiny_artifact)
    (sequence,) = tiny_tokenizer.encode(
        [pictures.pictures[0][:64, :64]], TokenBudget(max_tokens=64), coding=Coding.FIXED
    )
    canvas = Size(64, 64)
    inputs = {
        name: torch.from_numpy(value)
        for name, value in tiny_tokenizer.decoder_inputs([sequence], canvas).items()
    }
    with torch.no_grad():
        decoded = trainer.model.synthesis(
            inputs["means"],
            inputs["length"],
            inputs["expected_mse"],
            *trainer.model.basis(canvas, trainer.device),
        )
    wanted = tiny_tokenizer.decoder.run(**tiny_tokenizer.decoder_inputs([sequence], canvas))["image"]
    assert np.abs(decoded.numpy() - wanted).max() < 0.05
    image = torch.from_numpy(pictures.pictures[0][:64, :64].transpose(2, 0, 1).copy())[None].float()
    basis = trainer.model.basis(canvas, trainer.device)
    with torch.no_grad():
        coefficients, _, _ = trainer.model.analysis(image, *basis)
    graph = tiny_tokenizer.encoder.run(image=image.numpy(), **tiny_tokenizer.layout.canvas_inputs(canvas))[
        "coefficients"
    ]
    assert np.abs(coefficients.numpy() - graph).max() < 0.01
    for name, value in load_start(tiny_artifact)["tables"].items():
        assert np.array_equal(getattr(trainer.layout.tables, name), value.numpy())


def test_it_is_the_same_start_as_the_checkpoint_behind_the_model(
    tiny_artifact: Path, pictures: PictureSet, tmp_path: Path
) -> None:
    Trainer(debug_tiny(), pictures, tmp_path, start=tiny_artifact).save()
    saved = load_checkpoint(tmp_path / "checkpoint.pt")["model"]
    exported = load_start(tiny_artifact)["average"]
    learned = [name for name in saved if name in exported]
    # All but buffers that the graph folds.
    assert {name for name in saved if ".network." in name} <= set(learned)
    for name in learned:
        assert torch.equal(saved[name], exported[name]), name


def test_tables_can_be_fitted_anew(tiny_artifact: Path, pictures: PictureSet, tmp_path: Path) -> None:
    """An artifact whose tables nobody can read any more still gives its weights."""
    old = Path(shutil.copytree(tiny_artifact, tmp_path / "old"))
    manifest = json.loads((old / "manifest.json").read_text())
    (old / "contexts.npz").write_bytes(b"of another release")
    manifest["files"]["contexts.npz"] = sha256(b"of another release")
    (old / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="ContextTables cannot be read"):
        Trainer(debug_tiny(), pictures, tmp_path / "kept", start=old)
    anew = Trainer(
        dataclasses.replace(debug_tiny(), refit_tables=True), pictures, tmp_path / "anew", start=old
    )
    start = load_start(tiny_artifact)
    name = "synthesis.network.inward.weight"
    assert torch.equal(anew.model.state_dict()[name], start["average"][name])
    tables = anew.layout.tables
    assert not np.array_equal(tables.mean_rgb, start["tables"]["mean_rgb"].numpy())
    assert np.array_equal(anew.model.synthesis.mean.flatten().numpy(), tables.mean_rgb)


def test_an_int8_model_is_refused() -> None:
    with pytest.raises(StartRefused, match="tessera-small-int8 has int8 weights, training goes on from fp32"):
        load_start("tessera-small-int8")


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"no model 'nothing'.*tessera-small"):
        load_start("nothing")


def test_a_start_that_does_not_fit_is_refused(
    tiny_artifact: Path, pictures: PictureSet, tmp_path: Path
) -> None:
    with pytest.raises(StartRefused, match="no weight of the start"):
        RegisterTrainer(register_debug(), pictures, tmp_path, start=tiny_artifact)
    wider = dataclasses.replace(debug_tiny().model, decoder_widths=(48, 64))
    with pytest.raises(StartRefused, match=r"inward.weight is \[16, 48, 3, 3\] in the start and \[48, 48"):
        Trainer(dataclasses.replace(debug_tiny(), model=wider), pictures, tmp_path, start=tiny_artifact)


def test_blocks_that_the_start_lacks_are_new(
    tiny_artifact: Path, pictures: PictureSet, tmp_path: Path
) -> None:
    deeper = dataclasses.replace(debug_tiny().model, decoder_depths=(1, 2))
    trainer = Trainer(
        dataclasses.replace(debug_tiny(), model=deeper), pictures, tmp_path, start=tiny_artifact
    )
    old, new = trainer.model.synthesis.network.encoder[1]
    assert old.second.weight.any() and not new.second.weight.any()


def test_the_command_starts_from_a_model(
    tiny_artifact: Path, picture_folder: Path, tmp_path: Path, training_command: Callable[..., str]
) -> None:
    training_command(
        "train", "--recipe", "debug_tiny", "--start", tiny_artifact, "--steps", 1, "--data", picture_folder,
        "--folder", tmp_path, "--set", "validate_every=0", "--set", "sheet_every=0",
    )  # fmt: skip
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert state["step"] == 1
    start = load_start(tiny_artifact)["average"]["synthesis.network.inward.weight"]
    moved = (state["model"]["synthesis.network.inward.weight"] - start).abs().max()
    assert 0 < moved < 0.01


@pytest.mark.parametrize("has_bf16", [True, False])
def test_networks_train_in_bf16_where_the_processor_has_it(
    has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.precision._has_bf16", lambda kind: has_bf16)
    cpu, ones = torch.device("cpu"), torch.ones(2, 2)
    with autocast(cpu):
        assert (ones @ ones).dtype == (torch.bfloat16 if has_bf16 else torch.float32)
    with autocast(cpu, is_wanted=False):
        assert (ones @ ones).dtype == torch.float32
