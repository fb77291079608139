"""The training loop: it starts as the linear codec, and a resumed run is the unbroken run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_pictures import picture

from tokenizer.canvas import Size
from tokenizer.model import AdaptiveTokenizer
from tokenizer.spectral import SpectralLayout
from training.checkpoint import config_from_dict, config_to_dict, load_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.data import PictureSet
from training.linear_codec import LinearCodecConfig
from training.recipes import RECIPES, debug_tiny
from training.trainer import Trainer

CANVAS = Size(64, 64)


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    made = tuple(picture(seed, 64, 80) for seed in range(200, 216))
    return PictureSet(tuple(str(number) for number in range(len(made))), made)


def short(**changes: object) -> TrainConfig:
    linear = LinearCodecConfig(num_classes=2, num_iterations=2)
    return dataclasses.replace(
        debug_tiny(), linear=linear, **{"num_steps": 6, "checkpoint_every": 3, "batch_size": 2, **changes}
    )


class Killed(Exception):
    """The machine went away."""


class DyingPictures(PictureSet):
    """Pictures that end the run at step 3, as a kill would."""

    def batch(self, step: int, batch_size: int, canvas: Size, seed: int) -> np.ndarray:
        if step == 3:
            raise Killed
        return super().batch(step, batch_size, canvas, seed)


@pytest.fixture(scope="module")
def unbroken(pictures: PictureSet, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = Trainer(short(), pictures, tmp_path_factory.mktemp("unbroken"))
    trainer.run()
    return trainer


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    unbroken: Trainer, pictures: PictureSet, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        Trainer(short(), DyingPictures(pictures.keys, pictures.pictures), tmp_path).run()
    resumed = Trainer(short(), pictures, tmp_path)
    assert resumed.step == 3
    resumed.run()
    for mine, theirs in ((resumed.model, unbroken.model), (resumed.average.module, unbroken.average.module)):
        expected = theirs.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in mine.state_dict().items())


def test_training_moves_both_networks(unbroken: Trainer) -> None:
    model = unbroken.average.module
    assert model.synthesis.network.outward.weight.abs().max() > 0
    assert model.analysis.network.outward.weight.abs().max() > 0


def test_a_finished_run_does_nothing_more(unbroken: Trainer, pictures: PictureSet) -> None:
    again = Trainer(short(), DyingPictures(pictures.keys, pictures.pictures), unbroken.folder)
    assert again.step == 6
    again.run()


def test_a_run_leaves_one_whole_checkpoint(unbroken: Trainer) -> None:
    state = load_checkpoint(unbroken.path)
    assert state["step"] == 6
    assert config_from_dict(state["config"]) == short()
    assert not list(unbroken.folder.glob("*.tmp"))


@pytest.fixture(scope="module")
def untrained(unbroken: Trainer) -> AdaptiveTokenizer:
    torch.manual_seed(1)
    return AdaptiveTokenizer(short().model, unbroken.layout.tables).eval()


def batch(pictures: PictureSet) -> torch.Tensor:
    pixels = pictures.batch(0, 4, CANVAS, seed=3)
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float()


@torch.no_grad()
def test_an_untrained_model_is_exactly_the_linear_codec(
    untrained: AdaptiveTokenizer, pictures: PictureSet
) -> None:
    image, device = batch(pictures), torch.device("cpu")
    basis = untrained.basis(CANVAS, device)
    coefficients, reference, energy = untrained.analysis(image, *basis)
    assert torch.equal(coefficients, reference)
    centred = image - untrained.analysis.mean
    torch.testing.assert_close(energy, centred.square().mean((2, 3)).sum(1))
    layout, quantizer = SpectralLayout(untrained.tables), untrained.quantizer(CANVAS, device)
    classes = torch.tensor([layout.choose_class(c, CANVAS) for c in coefficients.numpy()])
    for length in (1, 24, 300, quantizer.max_tokens):
        lengths = torch.full_like(classes, length)
        means = quantizer(coefficients.flatten(1), classes, lengths).unflatten(1, coefficients.shape[1:])
        decoded = untrained.synthesis(
            means, lengths.float(), quantizer.expected_mse(classes, lengths), *basis
        )
        linear = untrained.synthesis.linear(means, *basis) + untrained.synthesis.mean
        assert torch.equal(decoded, linear)


@torch.no_grad()
def test_losses_are_1_before_training(pictures: PictureSet, tmp_path: Path) -> None:
    trainer = Trainer(short(), pictures, tmp_path)
    losses = trainer.losses(batch(pictures).to(trainer.device), CANVAS)
    assert losses.keys() == {"prefix", "full"}
    assert {name: pytest.approx(1.0, abs=1e-4) for name in losses} == {k: float(v) for k, v in losses.items()}


@torch.no_grad()
def test_the_full_length_can_be_left_out(pictures: PictureSet, tmp_path: Path) -> None:
    trainer = Trainer(short(full_length=False), pictures, tmp_path)
    assert trainer.losses(batch(pictures).to(trainer.device), CANVAS).keys() == {"prefix"}


def test_another_run_can_be_started_from_a_checkpoint(
    unbroken: Trainer, pictures: PictureSet, tmp_path: Path
) -> None:
    """Tables and fitting weights are taken, the step is not."""
    started = Trainer(short(seed=5), pictures, tmp_path, start=unbroken.path)
    assert started.step == 0
    assert np.array_equal(started.layout.tables.log_variance, unbroken.layout.tables.log_variance)
    expected = unbroken.average.module.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in started.model.state_dict().items())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_its_checkpoint(name: str) -> None:
    config = RECIPES[name]()
    assert config.name == name
    assert config_from_dict(config_to_dict(config)) == config


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "old.pt", {"format": 0})
    with pytest.raises(ValueError, match="checkpoint format 0"):
        load_checkpoint(tmp_path / "old.pt")


@pytest.mark.parametrize(
    "change", [{"canvases": ()}, {"canvases": (Size(20, 16),)}, {"batch_size": 0}, {"num_steps": 0}]
)
def test_a_run_that_makes_no_sense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"need|at least"):
        short(**change)
