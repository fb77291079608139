"""Coding rate and spectral norm equal their definitions, and a run that uses neither is untouched by them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from generated_pictures import picture
from torch import Tensor, nn

from tokenizer.canvas import Size
from tokenizer.model import ModelConfig
from training.checkpoint import config_from_dict, config_to_dict, load_checkpoint
from training.config import TrainConfig
from training.data import PictureSet
from training.linear_codec import LinearCodecConfig
from training.overrides import OverrideError, override
from training.recipes import debug_tiny, small_128
from training.regularizers import (
    RegularizerConfig,
    coding_rate,
    effective_rank,
    layer_weights,
    leading_codes,
    norm_of_weights,
    objective,
    rate_of_codes,
    spectral_norm,
)
from training.trainer import Trainer

CANVAS = Size(64, 64)
BOTH = RegularizerConfig(coding_rate_weight=0.1, coding_rate_features=4, spectral_norm_weight=1e-3)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def short(**changes: Any) -> TrainConfig:
    linear = LinearCodecConfig(num_classes=2, num_iterations=2)
    small = {"num_steps": 4, "checkpoint_every": 2, "batch_size": 4, "validate_every": 0, "sheet_every": 0}
    return dataclasses.replace(debug_tiny(), linear=linear, **{**small, **changes})


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    made = tuple(picture(seed, 64, 80) for seed in range(300, 316))
    return PictureSet(tuple(str(number) for number in range(len(made))), made)


@pytest.fixture(scope="module")
def plain(pictures: PictureSet, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A whole run without penalties."""
    trainer = Trainer(short(), pictures, tmp_path_factory.mktemp("plain"))
    trainer.run()
    return trainer


@pytest.mark.parametrize(("count", "width"), [(3, 7), (7, 3), (5, 5), (1, 4), (300, 16)])
def test_the_coding_rate_is_half_the_log_determinant_of_the_paper(count: int, width: int) -> None:
    codes, eps = normal(count, width), 0.3
    columns = codes.double().numpy().T  # the paper's Z is d x N
    covariance = np.eye(width) + width / (count * eps**2) * columns @ columns.T
    expected = 0.5 * np.linalg.slogdet(covariance)[1]
    assert float(coding_rate(codes, eps)) == pytest.approx(expected, rel=1e-5)


def test_the_coding_rate_does_not_depend_on_the_axes_of_the_codes() -> None:
    rotation = torch.linalg.qr(normal(6, 6, seed=1)).Q
    codes = normal(40, 6)
    torch.testing.assert_close(coding_rate(codes @ rotation, 0.5), coding_rate(codes, 0.5))


def test_collapsed_codes_are_pushed_apart() -> None:
    """Almost equal codes: following the gradient alone, they end up using every direction."""
    codes = (torch.ones(8, 4) + 1e-2 * normal(8, 4)).requires_grad_()
    config = RegularizerConfig(coding_rate_weight=1.0)
    before = effective_rank(F.normalize(codes, dim=1))
    for _ in range(200):
        (gradient,) = torch.autograd.grad(rate_of_codes(codes, config)["coding_rate"], codes)
        codes = (codes + gradient).detach().requires_grad_()
    assert before < 1.1
    assert effective_rank(F.normalize(codes, dim=1)) > 3.9


def test_larger_codes_have_no_higher_rate_on_the_sphere() -> None:
    codes, config = normal(20, 6), RegularizerConfig(coding_rate_weight=1.0)
    rates = [rate_of_codes(scale * codes, config)["coding_rate"] for scale in (1.0, 100.0)]
    torch.testing.assert_close(rates[0], rates[1])


@pytest.mark.parametrize("codes", [torch.zeros(5, 3), torch.ones(5, 3), 1e4 * normal(50, 3)])
def test_the_coding_rate_and_its_gradient_are_finite_for_degenerate_codes(codes: Tensor) -> None:
    codes = codes.clone().requires_grad_()
    rate = coding_rate(codes, 0.5) + rate_of_codes(codes, BOTH)["coding_rate"]
    (gradient,) = torch.autograd.grad(rate, codes)
    assert torch.isfinite(rate) and torch.isfinite(gradient).all()


def test_codes_that_are_not_finite_give_a_rate_that_is_not_and_no_error() -> None:
    codes = normal(8, 4)
    codes[3, 2] = torch.nan
    assert not torch.isfinite(coding_rate(codes, 0.5))


def test_the_coding_rate_is_counted_in_fp32_within_autocast() -> None:
    codes = normal(64, 16)
    with torch.autocast("cpu", torch.bfloat16):
        inside = coding_rate(codes, 0.5)
    assert torch.equal(inside, coding_rate(codes, 0.5))


def test_leading_codes_are_the_same_coefficients_of_every_picture_in_deviations_of_its_class() -> None:
    sigmas = torch.tensor([[1.0, 4.0, 2.0, 0.1], [3.0, 2.0, 4.0, 0.2]])
    coefficients = torch.tensor([[1.0, 8.0, 2.0, 9.0], [3.0, 4.0, 8.0, 9.0]])
    codes = leading_codes(coefficients, sigmas, torch.tensor([0, 1]), 3)
    assert codes.shape == (2, 3)
    assert sorted(codes[0].tolist()) == [1.0, 1.0, 2.0] and sorted(codes[1].tolist()) == [1.0, 2.0, 2.0]
    assert leading_codes(coefficients, sigmas, torch.tensor([0, 1]), 99).shape == (2, 4)


@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (8, 4, 3, 3), (6, 1), (1, 6)])
def test_power_iteration_finds_the_largest_singular_value(shape: tuple[int, ...]) -> None:
    weight = normal(*shape, seed=3)
    exact = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    torch.testing.assert_close(spectral_norm(weight, 200), exact, rtol=1e-4, atol=0)
    few = spectral_norm(weight, 8)
    assert 0.9 * exact < few <= exact * (1 + 1e-6)


def test_the_gradient_of_the_spectral_norm_is_that_of_the_singular_value() -> None:
    weight = normal(6, 5).requires_grad_()
    (found,) = torch.autograd.grad(spectral_norm(weight, 300), weight)
    (exact,) = torch.autograd.grad(torch.linalg.matrix_norm(weight, ord=2), weight)
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-4)


def test_a_layer_that_starts_at_zero_has_norm_and_gradient_zero() -> None:
    weight = torch.zeros(4, 3, requires_grad=True)
    norm = spectral_norm(weight, 8)
    (gradient,) = torch.autograd.grad(norm, weight)
    assert norm.item() == 0 and not gradient.any()


def test_every_convolution_and_linear_layer_is_counted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))
    assert [name for name, _ in layer_weights(model)] == ["0", "2.0"]
    exact = [torch.linalg.matrix_norm(w.flatten(1), ord=2) for _, w in layer_weights(model)]
    config = RegularizerConfig(spectral_norm_weight=1.0, spectral_norm_iterations=200)
    torch.testing.assert_close(
        norm_of_weights(model, config)["spectral_norm"], (exact[0] ** 2 + exact[1] ** 2) / 2
    )


def test_the_objective_is_the_mean_of_the_decodes_and_the_weighted_penalties() -> None:
    losses = {name: torch.tensor(value) for name, value in (("prefix", 1.0), ("full", 3.0))}
    penalties = {"coding_rate": torch.tensor(5.0), "spectral_norm": torch.tensor(7.0)}
    config = RegularizerConfig(coding_rate_weight=0.1, spectral_norm_weight=0.01)
    assert float(objective(losses, RegularizerConfig())) == 2.0
    assert float(objective(losses | penalties, config)) == pytest.approx(2 - 0.5 + 0.07)


def test_without_weights_the_loss_is_the_loss_without_penalties_to_the_bit(
    plain: Trainer, pictures: PictureSet, tmp_path: Path
) -> None:
    """Not even other settings of penalties that are off change a weight."""
    off = RegularizerConfig(coding_rate_eps=0.1, coding_rate_features=3, spectral_norm_iterations=1)
    trainer = Trainer(short(regularizers=off), pictures, tmp_path)
    shown = [trainer.train_step()]
    assert shown[0].keys() == {"prefix", "full", "gradient_norm"}
    trainer.step += 1
    trainer.run()
    expected = plain.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in trainer.model.state_dict().items())


def test_both_penalties_are_shown_unweighted_and_change_the_run(
    plain: Trainer, pictures: PictureSet, tmp_path: Path
) -> None:
    trainer = Trainer(short(regularizers=BOTH), pictures, tmp_path)
    shown = trainer.train_step()
    assert shown.keys() == {"prefix", "full", "coding_rate", "spectral_norm", "gradient_norm"}
    exact = sum(float(torch.linalg.matrix_norm(w.flatten(1), ord=2)) ** 2 for w in weights_of(plain)) / 2
    assert shown["spectral_norm"] == pytest.approx(exact, rel=0.2)
    assert 0 < shown["coding_rate"] < 0.5 * np.log(1 + 4 * 4)
    trainer.step += 1
    trainer.run()
    ours, theirs = trainer.model.state_dict(), plain.model.state_dict()
    for name in ("analysis.network.outward.weight", "synthesis.network.inward.weight"):
        assert not torch.equal(ours[name], theirs[name])


def weights_of(trainer: Trainer) -> list[Tensor]:
    return [weight.detach() for _, weight in layer_weights(trainer.model)]


def test_a_run_with_both_penalties_resumes_bit_for_bit(pictures: PictureSet, tmp_path: Path) -> None:
    config = short(regularizers=BOTH)
    unbroken = Trainer(config, pictures, tmp_path / "unbroken")
    unbroken.run()
    half = Trainer(config, pictures, tmp_path / "resumed")
    for _ in range(2):
        half.train_step()
        half.step += 1
    half.save()
    torch.manual_seed(12345)  # another process begins elsewhere
    resumed = Trainer(config, pictures, tmp_path / "resumed")
    assert resumed.step == 2
    resumed.run()
    ours, theirs = load_checkpoint(resumed.path), load_checkpoint(unbroken.path)
    for part in ("model", "average"):
        assert all(torch.equal(value, theirs[part][name]) for name, value in ours[part].items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coding_rate_weight": -0.1}, "coding_rate_weight must be at least 0, got -0.1"),
        ({"spectral_norm_weight": -1.0}, "spectral_norm_weight must be at least 0, got -1.0"),
        ({"coding_rate_eps": 0.0}, "coding_rate_eps must be above 0, got 0.0"),
        ({"coding_rate_features": 0}, "coding_rate_features must be at least 1, got 0"),
        ({"spectral_norm_iterations": 0}, "spectral_norm_iterations must be at least 1, got 0"),
    ],
)
def test_penalties_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegularizerConfig(**change)


def test_a_coding_rate_without_an_encoder_network_is_refused() -> None:
    rate = RegularizerConfig(coding_rate_weight=0.1)
    with pytest.raises(ValueError, match="coding_rate_weight needs an encoder network"):
        dataclasses.replace(small_128(), regularizers=rate)
    assert short(model=ModelConfig((16,), (1,), (16,), (1,)), regularizers=rate).regularizers == rate


def test_penalties_are_set_from_the_command_line() -> None:
    settings = ["regularizers.coding_rate_weight=0.1", "regularizers.spectral_norm_weight=1e-3"]
    changed = override(debug_tiny(), settings)
    assert changed.regularizers == RegularizerConfig(coding_rate_weight=0.1, spectral_norm_weight=1e-3)
    with pytest.raises(OverrideError, match="needs an encoder network"):
        override(small_128(), settings)


def test_a_checkpoint_from_before_the_penalties_is_read_as_one_without() -> None:
    data = config_to_dict(debug_tiny())
    del data["regularizers"]
    assert config_from_dict(data) == debug_tiny()
