"""The training loop: it starts as the linear codec, and a resumed run is the unbroken run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated_pictures import picture

from tokenizer.canvas import Size
from tokenizer.model import AdaptiveTokenizer
from tokenizer.spectral import SpectralLayout
from training.checkpoint import config_from_dict, config_to_dict, load_checkpoint, save_checkpoint
from training.config import OptimConfig, TrainConfig
from training.data import PictureSet
from training.draws import draw_windows
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


class DyingTrainer(Trainer):
    """Ends the run at step 3, as a kill would."""

    def train_step(self) -> dict[str, float]:
        if self.step == 3:
            raise Killed
        return super().train_step()


def assert_same(mine: Any, theirs: Any) -> None:
    """Equal bit for bit, however deep."""
    if isinstance(mine, torch.Tensor):
        assert torch.equal(mine, theirs)
    elif isinstance(mine, dict):
        assert mine.keys() == theirs.keys()
        for key in mine:
            assert_same(mine[key], theirs[key])
    elif isinstance(mine, list | tuple):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert_same(one, other)
    else:
        assert mine == theirs


@pytest.fixture(scope="module")
def unbroken(pictures: PictureSet, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = Trainer(short(), pictures, tmp_path_factory.mktemp("unbroken"))
    trainer.run()
    return trainer


@pytest.mark.parametrize("changes", [{}, {"device_cache": True, "scale_range": (0.6, 1.0)}])
def test_a_resumed_run_is_the_unbroken_run_bit_for_bit(
    pictures: PictureSet, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Weights, average, optimizer and step as saved, torch's generator and the pictures that come next."""
    config = short(canvases=(CANVAS, Size(80, 48)), **changes)
    unbroken = Trainer(config, pictures, tmp_path / "unbroken")
    unbroken.run()
    generator = torch.get_rng_state()
    with pytest.raises(Killed):
        DyingTrainer(config, pictures, tmp_path / "resumed").run()
    torch.manual_seed(12345)  # another process begins elsewhere
    resumed = Trainer(config, pictures, tmp_path / "resumed")
    assert resumed.step == 3
    resumed.run()
    assert_same(load_checkpoint(resumed.path), load_checkpoint(unbroken.path))
    assert torch.equal(torch.get_rng_state(), generator)
    windows = [draw_windows(t.config, t.sizes, CANVAS, t.step) for t in (resumed, unbroken)]
    assert_same(*(torch.from_numpy(w.left) for w in windows))


def test_a_run_resumed_with_other_settings_says_so(
    pictures: PictureSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Killed):
        DyingTrainer(short(), pictures, tmp_path).run()
    Trainer(short(optim=OptimConfig(learning_rate=5e-4, warmup_steps=5)), pictures, tmp_path)
    assert (
        "resuming at step 3 with other settings: optim.learning_rate 0.001 → 0.0005"
        in capsys.readouterr().out
    )


def test_a_step_without_a_finite_gradient_is_left_out_and_counted(
    pictures: PictureSet, tmp_path: Path
) -> None:
    trainer = Trainer(short(), pictures, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.losses = lambda image, canvas: {
        "prefix": trainer.model.synthesis.network.outward.weight.sum() / 0
    }
    trainer.train_step()
    assert trainer.skipped_steps == 1
    assert_same(trainer.model.state_dict(), before)


def test_training_moves_both_networks(unbroken: Trainer) -> None:
    model = unbroken.average.module
    assert model.synthesis.network.outward.weight.abs().max() > 0
    assert model.analysis.network.outward.weight.abs().max() > 0


def test_a_finished_run_does_nothing_more(unbroken: Trainer, pictures: PictureSet) -> None:
    again = DyingTrainer(short(), pictures, unbroken.folder)
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
    (pixels,) = PictureSet(pictures.keys[:4], pictures.pictures[:4]).centre_batches(4, CANVAS)
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
    losses = trainer.losses(batch(pictures)[:2].to(trainer.device), CANVAS)
    assert losses.keys() == {"prefix", "full"}
    assert {name: pytest.approx(1.0, abs=1e-4) for name in losses} == {k: float(v) for k, v in losses.items()}


@torch.no_grad()
def test_the_full_length_can_be_left_out(pictures: PictureSet, tmp_path: Path) -> None:
    trainer = Trainer(short(full_length=False), pictures, tmp_path)
    assert trainer.losses(batch(pictures)[:2].to(trainer.device), CANVAS).keys() == {"prefix"}


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
    "change",
    [
        {"canvases": ()},
        {"canvases": (Size(20, 16),)},
        {"canvas_weights": (1.0, 1.0)},
        {"canvas_weights": (-1.0,)},
        {"canvas_weights": (0.0,)},
        {"scale_range": (0.0, 1.0)},
        {"scale_range": (1.0, 0.6)},
        {"scale_range": (0.5, 1.1)},
        {"batch_size": 0},
        {"num_steps": 0},
        {"log_every": 0},
    ],
)
def test_a_run_that_makes_no_sense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"need|at least"):
        short(**change)
