"""`python -m training`: from a folder of pictures to an artifact that the library loads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from generated_pictures import PICTURES_PER_SPLIT, picture
from numpy_codec import synthesise

from tokenizer import Coding, ImageTokenizer, Size
from tokenizer.artifact import FILES
from training.__main__ import train
from training.checkpoint import load_checkpoint
from training.halting import CANDIDATE_LENGTHS, COVERAGES
from training.recipes import RECIPES, debug_tiny

Command = Callable[..., str]


def test_train_export_and_evaluate_make_a_model_that_works(
    tiny_artifact: Path, picture_folder: Path, training_command: Command
) -> None:
    """The fixture behind `tiny_artifact` ran `train` and `export`; this evaluates what they wrote."""
    table = training_command("evaluate", "--model", tiny_artifact, "--data", picture_folder, "--limit", 2)
    rows = re.findall(r"^\| (\d+) \| (\d+\.\d\d) \|$", table, re.MULTILINE)
    assert [int(count) for count, _ in rows] == [
        16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048,
    ]  # fmt: skip
    assert float(rows[-1][1]) > float(rows[0][1])
    assert "2 pictures" in table


def test_the_artifact_is_whole_and_says_where_it_came_from(tiny_artifact: Path) -> None:
    assert {path.name for path in tiny_artifact.iterdir()} == {*FILES, "manifest.json"}
    manifest = json.loads((tiny_artifact / "manifest.json").read_text())
    assert manifest["steps"] == debug_tiny().num_steps
    assert manifest["recipe"]["name"] == "debug_tiny"
    # The head is calibrated on pictures that nothing else has seen.
    assert manifest["halting"]["fitted_on"] + manifest["halting"]["calibrated_on"] == sum(
        PICTURES_PER_SPLIT.values()
    )
    assert manifest["halting"]["calibrated_on"] == PICTURES_PER_SPLIT["calibration"]
    assert manifest["parameters"]["decoder"] > 0
    assert manifest["versions"].keys() >= {"torch", "onnx", "onnxruntime", "python"}


def test_the_artifact_names_no_place_of_the_machine_that_made_it(
    tiny_artifact: Path, picture_folder: Path
) -> None:
    text = (tiny_artifact / "manifest.json").read_text() + (tiny_artifact / "config.json").read_text()
    assert str(picture_folder) not in text
    assert str(tiny_artifact.parent) not in text


def test_the_config_holds_lengths_and_margins(tiny_tokenizer: ImageTokenizer) -> None:
    config = tiny_tokenizer.artifact.config
    assert config.candidate_lengths == CANDIDATE_LENGTHS
    for coding in Coding:
        assert tuple(config.scores(coding)) == COVERAGES


@pytest.mark.slow
def test_the_linear_codec_can_be_exported_too(
    tiny_checkpoint: Path, picture_folder: Path, export_command: Command, tmp_path: Path
) -> None:
    """It decodes to the inverse transform of its coefficients and nothing else."""
    inputs = ("--checkpoint", tiny_checkpoint, "--data", picture_folder)
    export_command("export", *inputs, "--out", tmp_path / "linear", "--linear")
    linear = ImageTokenizer.from_pretrained(tmp_path / "linear")
    assert linear.artifact.manifest["steps"] == 0
    canvas, tables = Size(64, 64), linear.artifact.tables
    (whole,) = linear.encode([picture(1, 64, 64)])
    sequence = whole.prefix(100)
    means, _ = linear.codec.decode(sequence.tokens, canvas, sequence.coding)
    wanted = synthesise(means, canvas, tables) + tables.mean_rgb
    (decoded,) = linear.decode([sequence])
    np.testing.assert_allclose(decoded, wanted.clip(0, 255), atol=0.51)


def test_recipes_are_listed_with_what_they_are_for(training_command: Command) -> None:
    lines = training_command("recipes").splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert all(len(line.split()) > 5 for line in lines)


def test_a_run_shows_its_validation_and_takes_settings(
    picture_folder: Path, training_command: Command, tmp_path: Path
) -> None:
    settings = [
        part for text in ("num_steps=2", "validate_every=2", "log_every=1") for part in ("--set", text)
    ]
    places = ("--data", picture_folder / "*.png", "--folder", tmp_path)
    said = training_command("train", "--recipe", "debug_tiny", *places, *settings)
    assert re.search(r"^2 PSNR dB decoder/linear at bytes: 24 \d+\.\d\d/", said, re.MULTILINE)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 2


def test_without_held_out_pictures_a_run_says_that_it_does_not_validate(
    picture_folder: Path, training_command: Command, tmp_path: Path
) -> None:
    places = ("--data", picture_folder, "--folder", tmp_path, "--steps", 1)
    said = training_command(
        "train", "--recipe", "debug_tiny", *places, "--set", "data.held_out_share=0", "--limit", 4
    )
    assert "no validation" in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["optim.rate=1"], "allowed here: optim.learning_rate"),
        (["data.max_memory_gib=0.0001"], "GiB as uint8"),
    ],
)
def test_what_a_run_cannot_do_is_refused_in_a_sentence(
    picture_folder: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        train(data=[str(picture_folder)], folder=tmp_path, recipe="debug_tiny", settings=settings)
    assert not list(tmp_path.iterdir())


def test_an_unknown_recipe_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="there are debug_tiny"):
        train(data=[str(tmp_path)], folder=tmp_path, recipe="huge")
