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

from tokenizer import ImageTokenizer, Size
from tokenizer.artifact import FILES
from training.halting import CANDIDATE_LENGTHS, COVERAGES
from training.recipes import debug_tiny

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
    assert tuple(config.scores) == COVERAGES


def test_the_linear_codec_can_be_exported_too(
    tiny_checkpoint: Path, picture_folder: Path, training_command: Command, tmp_path: Path
) -> None:
    """It decodes to the inverse transform of its coefficients and nothing else."""
    inputs = ("--checkpoint", tiny_checkpoint, "--data", picture_folder)
    training_command("export", *inputs, "--out", tmp_path / "linear", "--linear")
    linear = ImageTokenizer.from_pretrained(tmp_path / "linear")
    assert linear.artifact.manifest["steps"] == 0
    canvas, tables = Size(64, 64), linear.artifact.tables
    (whole,) = linear.encode([picture(1, 64, 64)])
    sequence = whole.prefix(100)
    wanted = synthesise(linear.layout.decode(sequence.tokens, canvas), canvas, tables) + tables.mean_rgb
    (decoded,) = linear.decode([sequence])
    np.testing.assert_allclose(decoded, wanted.clip(0, 255), atol=0.51)


def test_an_unknown_recipe_is_refused_by_name(training_command: Command, tmp_path: Path) -> None:
    from training.__main__ import train

    with pytest.raises(typer.BadParameter, match="there are debug_tiny"):
        train(data=[str(tmp_path)], folder=tmp_path, recipe="huge")
