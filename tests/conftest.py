"""What all suites share: one tiny model, really trained and exported once per run, and its tokenizer.

Nothing heavy is imported before a test asks for it: torch stays out of the suites that do not train.
"""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import few_threads  # noqa: F401 - before numpy
import numpy as np
import pytest
from generated_pictures import PICTURES_PER_SPLIT, picture
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

from tokenizer import ImageTokenizer

ROOT = Path(__file__).parents[1]
# Several aspects, and none smaller than the 64 x 64 canvas that `debug_tiny` trains on.
PICTURE_SIZES = ((64, 64), (80, 64), (96, 80), (64, 96))

# A busy machine must not fail a property; examples are the same on every run.
settings.register_profile("tessera", deadline=None, derandomize=True, database=None)
settings.load_profile("tessera")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/*.json")


@pytest.fixture(scope="module", autouse=True)
def nothing_old_is_collected_again() -> None:
    """The collector looks at what a module makes, not at torch and the modules before.

    Once torch is there, a whole collection takes up to a second, and a server asks for one at each reload.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 generated pictures as PNG, named so that every split has some."""
    from training.data import split_of

    folder = tmp_path_factory.mktemp("pictures")
    missing = dict(PICTURES_PER_SPLIT)
    number = 0
    while any(missing.values()):
        name = f"picture {number}.png"
        split = split_of(name, 0.0625)
        if missing[split]:
            missing[split] -= 1
            pixels = picture(number, *PICTURE_SIZES[number % len(PICTURE_SIZES)])
            Image.fromarray(pixels).save(folder / name)
        number += 1
    return folder


@pytest.fixture(scope="session")
def training_command() -> Callable[..., str]:
    """`python -m training ...` in this process: importing torch once is enough. Returns the output."""
    from typer.testing import CliRunner

    from training.__main__ import app

    def run(*arguments: Any) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


@pytest.fixture(scope="session")
def export_command(training_command: Callable[..., str]) -> Callable[..., str]:
    """`training_command`, but heads are fitted in a fifth of the steps: how well they predict is asked in
    test_halting_fit.py, of pictures enough for that."""

    def run(*arguments: Any) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("training.halting.MIN_STEPS", 100)
            return training_command(*arguments)

    return run


@pytest.fixture(scope="session")
def tiny_checkpoint(
    picture_folder: Path, training_command: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Checkpoint of `debug_tiny` after its 20 steps."""
    folder = tmp_path_factory.mktemp("run")
    training_command("train", "--recipe", "debug_tiny", "--data", picture_folder, "--folder", folder)
    return folder / "checkpoint.pt"


@pytest.fixture(scope="session")
def tiny_artifact(
    tiny_checkpoint: Path,
    picture_folder: Path,
    export_command: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder of a tiny model: trained, head fitted and calibrated, exported, parity checked."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    arguments = ("--checkpoint", tiny_checkpoint, "--data", picture_folder, "--out", folder)
    export_command("export", *arguments, "--name", "tiny", "--version", "0.0.1")
    return folder


@pytest.fixture(scope="session")
def int8_artifact(
    tiny_artifact: Path,
    picture_folder: Path,
    training_command: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder of the tiny model's int8 sibling."""
    folder = tmp_path_factory.mktemp("int8") / "tiny-int8"
    training_command("quantize", "--model", tiny_artifact, "--data", picture_folder, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_artifact: Path) -> ImageTokenizer:
    """The tiny model, ready to encode and decode."""
    return ImageTokenizer.from_pretrained(tiny_artifact)


@pytest.fixture(scope="session")
def refiner_checkpoint(
    tiny_checkpoint: Path,
    picture_folder: Path,
    training_command: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Checkpoint of `refiner_debug` after its 20 steps on the tiny model."""
    folder = tmp_path_factory.mktemp("refine")
    arguments = ("--checkpoint", tiny_checkpoint, "--data", picture_folder, "--folder", folder)
    training_command("refine", "--recipe", "refiner_debug", *arguments)
    return folder / "checkpoint.pt"


@pytest.fixture(scope="session")
def refined_artifact(
    tiny_artifact: Path,
    refiner_checkpoint: Path,
    training_command: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The tiny model with its refiner attached."""
    folder = Path(shutil.copytree(tiny_artifact, tmp_path_factory.mktemp("refined") / "tiny"))
    training_command("attach", "--refiner", refiner_checkpoint, "--model", folder)
    return folder


@pytest.fixture(scope="session")
def refined_tokenizer(refined_artifact: Path) -> ImageTokenizer:
    """The tiny model, ready to decode with realism."""
    return ImageTokenizer.from_pretrained(refined_artifact)


@pytest.fixture(scope="session")
def generated_scenes() -> dict[str, NDArray[np.uint8]]:
    """The demo's three photograph-like pictures, uint8[512, 768, 3]."""
    if str(ROOT / "examples") not in sys.path:
        sys.path.append(str(ROOT / "examples"))
    from scenes import scenes

    return scenes()
