"""The register model and its trainer: causal, nested, resumed exactly. Generated pictures only."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_pictures import picture
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.model.register_config import RegisterConfig
from tokenizer.model.register_tokenizer import RegisterTokenizer, patchify, unpatchify
from tokenizer.model.transformer import prefix_causal
from training.checkpoint import config_from_dict, config_to_dict, load_checkpoint
from training.config import TrainConfig
from training.data import PictureSet
from training.overrides import override
from training.recipes import RECIPES, register_debug
from training.register_trainer import RegisterTrainer, log_distortion

CANVAS = Size(64, 48)
ONE_BYTE, TWO_BYTES = (4, 4, 4, 4), (8, 8, 8, 5, 5, 5)


def model_of(levels: tuple[int, ...], patch_px: int = 16) -> RegisterTokenizer:
    torch.manual_seed(0)
    sizes = RegisterConfig(levels, 12, width=64, encoder_depth=2, decoder_depth=1, patch_px=patch_px)
    model = RegisterTokenizer(sizes).eval()
    model.analysis.spread_codes(images(8), model.positions(CANVAS, torch.device("cpu")))
    # Before training the last layer is zero, and every picture the mean colour.
    torch.nn.init.normal_(model.synthesis.pixels.weight, std=0.05)
    return model


def images(count: int) -> Tensor:
    made = np.stack([picture(seed, CANVAS.width_px, CANVAS.height_px) for seed in range(count)])
    return torch.from_numpy(made.transpose(0, 3, 1, 2).copy()).float()


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    made = tuple(picture(seed, 64, 80) for seed in range(200, 212))
    return PictureSet(tuple(str(number) for number in range(len(made))), made)


def short(**changes: object) -> TrainConfig:
    changes = {"num_steps": 6, "checkpoint_every": 3, "batch_size": 2, **changes}
    return dataclasses.replace(register_debug(), **changes)


def test_patches_see_patches_and_registers_see_those_before_them() -> None:
    allowed = prefix_causal(torch.zeros(3, dtype=torch.int64), 2)
    assert allowed.int().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]


def test_a_register_depends_on_no_later_one() -> None:
    model = model_of(ONE_BYTE)
    image, positions = images(2), model.positions(CANVAS, torch.device("cpu"))
    with torch.no_grad():
        before = model.analysis.latents(image, positions)
        model.analysis.registers[7:] += torch.randn(5, 64)
        after = model.analysis.latents(image, positions)
    torch.testing.assert_close(after[:, :7], before[:, :7], atol=1e-5, rtol=0)
    assert (after[:, 7:] - before[:, 7:]).abs().amax() > 1e-2


@pytest.mark.parametrize("levels", [ONE_BYTE, TWO_BYTES])
def test_a_prefix_decodes_the_same_whatever_follows_it(levels: tuple[int, ...]) -> None:
    model = model_of(levels)
    positions, kept = model.positions(CANVAS, torch.device("cpu")), torch.tensor([5, 5])
    with torch.no_grad():
        _, ids = model.analysis(images(2), positions)
        other = ids.clone()
        other[:, 5:] = 0
        assert torch.equal(model.synthesis(ids, kept, positions), model.synthesis(other, kept, positions))
        assert not torch.equal(
            model.synthesis(ids, kept + 7, positions), model.synthesis(ids, kept, positions)
        )


@pytest.mark.parametrize("levels", [ONE_BYTE, TWO_BYTES])
def test_ids_stand_for_the_codes_that_training_decodes(levels: tuple[int, ...]) -> None:
    model = model_of(levels)
    positions = model.positions(CANVAS, torch.device("cpu"))
    with torch.no_grad():
        codes, ids = model.analysis(images(4), positions)
    assert torch.equal(model.synthesis.quantizer.indices_to_codes(ids), codes)


def test_autocast_does_not_touch_the_quantizer() -> None:
    model = model_of(TWO_BYTES)
    positions = model.positions(CANVAS, torch.device("cpu"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        codes, ids = model.analysis(images(4), positions)
    assert codes.dtype == torch.float32
    assert torch.equal(model.synthesis.quantizer.indices_to_codes(ids), codes)


def test_at_the_start_pictures_differ_in_all_levels() -> None:
    model = model_of(ONE_BYTE)
    with torch.no_grad():
        _, ids = model.analysis(images(8), model.positions(CANVAS, torch.device("cpu")))
    digits = model.synthesis.quantizer.indices_to_level_indices(ids)
    assert all(set(digits[..., d].flatten().tolist()) == {0, 1, 2, 3} for d in range(4))


def test_before_training_every_prefix_is_the_mean_colour() -> None:
    mean = torch.tensor([90.0, 120.0, 150.0])
    model = RegisterTokenizer(RegisterConfig(num_registers=4, width=64), mean)
    codes, kept = torch.rand(2, 4, 4), torch.tensor([0, 4])
    decoded = model.synthesis.decode(codes, kept, model.positions(CANVAS, torch.device("cpu")))
    assert torch.equal(decoded, mean[None, :, None, None].expand(2, 3, 48, 64))


@pytest.mark.parametrize("patch_px", [8, 16])
def test_patches_go_back_to_where_they_came_from(patch_px: int) -> None:
    image = images(2)
    grid = torch.zeros(CANVAS.height_px // patch_px, CANVAS.width_px // patch_px, 1)
    assert torch.equal(unpatchify(patchify(image, patch_px), grid, patch_px), image)


def test_the_loss_is_psnr_for_every_picture_alike() -> None:
    """Ten times the error costs as much on a rough picture as on a smooth one."""
    mse = torch.tensor([1000.0, 4000.0])
    assert float(log_distortion(10 * mse[:1]) - log_distortion(mse[:1])) == pytest.approx(
        float(log_distortion(10 * mse[1:]) - log_distortion(mse[1:])), abs=0.02
    )


@pytest.mark.parametrize("levels", [ONE_BYTE, TWO_BYTES])
def test_a_resumed_run_is_the_unbroken_run(
    levels: tuple[int, ...], pictures: PictureSet, tmp_path: Path
) -> None:
    model = dataclasses.replace(register_debug().model, levels=levels)
    config = short(model=model)
    RegisterTrainer(config, pictures, tmp_path / "whole").run()
    stopped = RegisterTrainer(config, pictures, tmp_path / "stopped")
    for _ in range(3):
        stopped.train_step()
        stopped.step += 1
    stopped.save()
    RegisterTrainer(config, pictures, tmp_path / "stopped").run()
    whole, resumed = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "stopped"))
    for part in ("model", "average"):
        assert all(torch.equal(whole[part][name], resumed[part][name]) for name in whole[part])
    assert whole["updates"] == resumed["updates"]


def test_training_learns(pictures: PictureSet, tmp_path: Path) -> None:
    trainer = RegisterTrainer(short(num_steps=60, batch_size=4), pictures, tmp_path, held_out=pictures)
    assert trainer.held_out is not None
    before = trainer.held_out.validate(trainer.average.module)
    trainer.run()
    after = trainer.held_out.validate(trainer.average.module)
    assert all(after.psnr_db[count] > before.psnr_db[count] + 0.5 for count in after.psnr_db)
    assert set(after.psnr_db) == {8, 16}
    assert all(0 < usage <= 1 for usage in after.level_usage.values())
    assert trainer.held_out.sheet(trainer.average.module).shape[2] == 3


def test_a_config_survives_the_checkpoint_and_takes_settings() -> None:
    config = override(RECIPES["register_128"](), ["model.levels=8,8,8,5,5,5", "model.num_registers=128"])
    assert isinstance(config.model, RegisterConfig)
    assert (config.model.bytes_per_register, config.model.max_tokens) == (2, 256)
    assert config_from_dict(config_to_dict(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (2, 4)}, "levels must be at least 3"),
        ({"levels": (256, 257)}, "product up to 65536"),
        ({"width": 100}, "multiple of 64"),
        ({"patch_px": 12}, "divide 16"),
        ({"num_registers": 0}, "at least 1"),
    ],
)
def test_nonsense_is_refused_at_construction(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RegisterConfig(), **changes)


def test_the_range_coding_cannot_be_trained_with_registers() -> None:
    with pytest.raises(ValueError, match="coded_share"):
        short(coded_share=0.5)
