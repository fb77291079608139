"""Training of the refiner: it starts at rest, learns, and a resumed run is the unbroken run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from generated_pictures import picture

from tokenizer import Coding, ImageTokenizer, TokenSequence
from tokenizer.canvas import Size
from tokenizer.model import Refiner, RefinerConfig
from tokenizer.model.refiner import residual_scale
from training.checkpoint import load_checkpoint
from training.coded_batches import OtherCrops
from training.data import PictureSet
from training.flow import draw_flow, draw_walk, flow_losses
from training.frozen_tokenizer import PROBE_CANVAS, PROBE_TOKENS, Decoded, FrozenTokenizer
from training.losses import pyramid_moment_distance
from training.realism import RefinerTrainConfig, RefinerTrainer, load_refiner
from training.recipes import REFINER_RECIPES, refiner_debug

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    made = tuple(picture(seed, 64, 80) for seed in range(300, 312))
    return PictureSet(tuple(str(number) for number in range(len(made))), made)


def short(**changes: object) -> RefinerTrainConfig:
    # Three draws per decode, and a kill within them: what is in memory must not matter.
    plain = {"num_steps": 7, "checkpoint_every": 4, "batch_size": 2, "draws_per_decode": 3}
    return dataclasses.replace(refiner_debug(), **{**plain, **changes})


def batch(seed: int = 0) -> Decoded:
    generator = torch.Generator().manual_seed(seed)
    fidelity = 128 + 40 * torch.randn(4, 3, 32, 32, generator=generator)
    expected = torch.tensor([900.0, 400.0, 100.0, 25.0])
    noise = torch.randn(fidelity.shape, generator=generator)
    image = fidelity + residual_scale(expected)[:, None, None, None] * noise
    return Decoded(image, fidelity, torch.tensor([8.0, 20.0, 60.0, 200.0]), expected)


def losses(refiner: Refiner, moment_weight: float = 0.0) -> dict[str, torch.Tensor]:
    flow = draw_flow(refiner, batch(), torch.Generator().manual_seed(1), start_share=0.0)
    return flow_losses(flow, batch(), moment_weight)


class Killed(Exception):
    """The machine went away."""


class DyingTrainer(RefinerTrainer):
    """A run that ends at step 5, as a kill would."""

    def train_step(self) -> dict[str, float]:
        if self.step == 5:
            raise Killed
        return super().train_step()


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    tiny_checkpoint: Path, pictures: PictureSet, tmp_path: Path
) -> None:
    unbroken = RefinerTrainer(short(), tiny_checkpoint, pictures, tmp_path / "unbroken")
    unbroken.run()
    with pytest.raises(Killed):
        DyingTrainer(short(), tiny_checkpoint, pictures, tmp_path / "killed").run()
    resumed = RefinerTrainer(short(), tiny_checkpoint, pictures, tmp_path / "killed")
    assert resumed.step == 4
    resumed.run()
    expected = unbroken.average.module.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in resumed.average.module.state_dict().items())
    assert unbroken.average.module.network.outward.weight.abs().max() > 0
    # The tokenizer is frozen.
    before = load_checkpoint(tiny_checkpoint)["average"]
    after = unbroken.tokenizer.model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


@torch.no_grad()
def test_before_training_the_flow_stands_still_and_loses_1_at_every_length() -> None:
    """The residual has unit variance in units of the expected error; the start noise adds its share."""
    refiner = Refiner(RefinerConfig(widths=(16,), depths=(1,)))
    one = batch()
    still = refiner(one.image, one.fidelity, torch.full((4,), 0.5), one.length, one.expected_mse)
    assert still.abs().max() == 0
    assert float(losses(refiner)["flow"]) == pytest.approx(1 + 0.1**2, rel=0.05)


def test_the_flow_is_learned() -> None:
    torch.manual_seed(0)
    refiner = Refiner(RefinerConfig(widths=(16,), depths=(1,)))
    optimizer = torch.optim.AdamW(refiner.parameters(), lr=3e-3)
    before = losses(refiner)["flow"].item()
    for _ in range(30):
        optimizer.zero_grad()
        losses(refiner)["flow"].backward()
        optimizer.step()
    assert losses(refiner)["flow"].item() < 0.8 * before


@pytest.fixture
def coding_run(tiny_checkpoint: Path, pictures: PictureSet, tmp_path: Path) -> RefinerTrainer:
    """A run on the range coding alone."""
    return RefinerTrainer(short(coded_share=1.0), tiny_checkpoint, pictures, tmp_path)


def test_range_coded_prefixes_are_trained_on_as_the_runtime_decodes_them(
    coding_run: RefinerTrainer, tiny_tokenizer: ImageTokenizer
) -> None:
    """Nearly: which bits the byte at the cut settles is known on average only."""
    assert coding_run.coded is not None
    lengths = torch.tensor([40, 90])
    drawn = coding_run.coded.draw(3, lengths, slice(None), CPU)
    ours = coding_run.tokenizer.decode_coded(drawn)
    pixels = [one.permute(1, 2, 0).to(torch.uint8).numpy() for one in drawn.image]
    streams = tiny_tokenizer.encode(pixels, coding=Coding.RANGE)
    theirs = tiny_tokenizer.decode([s.prefix(n) for s, n in zip(streams, lengths.tolist(), strict=True)])
    for fidelity, flip, runtime in zip(ours.fidelity, drawn.flip, theirs, strict=True):
        unflipped = fidelity.flip(2) if flip else fidelity
        shown = unflipped.permute(1, 2, 0).clamp(0, 255).numpy()
        assert np.abs(shown - runtime).mean() < 2
    coding_run.run()
    assert coding_run.average.module.network.outward.weight.abs().max() > 0


def test_coded_crops_of_other_pictures_are_refused(
    coding_run: RefinerTrainer, tiny_checkpoint: Path, pictures: PictureSet
) -> None:
    """A file of coded crops may be brought along; a wrong one would teach nonsense in silence."""
    with pytest.raises(OtherCrops, match="holds 24 coded crops, these pictures give 10"):
        RefinerTrainer(coding_run.config, tiny_checkpoint, pictures.first(5), coding_run.folder)


def test_the_straight_way_leads_from_noise_to_the_picture() -> None:
    refiner = Refiner(RefinerConfig(widths=(16,), depths=(1,)))
    flow = draw_flow(refiner, batch(), torch.Generator().manual_seed(1), start_share=0.0)
    t = flow.time[:, None, None, None]
    assert torch.allclose(flow.state, (1 - t) * flow.start + t * flow.end)
    still = dataclasses.replace(flow, velocity=flow.end - flow.start)
    assert torch.allclose(still.reached, flow.end, atol=1e-5)
    begun = draw_flow(refiner, batch(), torch.Generator().manual_seed(1), start_share=0.99)
    assert begun.time.max() == 0
    assert torch.equal(begun.state, begun.start)


def test_a_walk_knows_nothing_of_the_real_picture() -> None:
    refiner = Refiner(RefinerConfig(widths=(16,), depths=(1,)))
    torch.nn.init.normal_(refiner.network.outward.weight, std=0.05)
    one, other = batch(), dataclasses.replace(batch(), image=batch().image.flip(3))
    walks = [draw_walk(refiner, b, torch.Generator().manual_seed(1)) for b in (one, other)]
    assert torch.equal(walks[0].state, walks[1].state)
    assert not torch.equal(walks[0].end, walks[1].end)
    assert walks[0].time.min() > 0
    assert not walks[0].state.requires_grad
    assert flow_losses(walks[0], one).keys() == {"walk"}


def test_the_moment_term_is_off_unless_asked_for() -> None:
    refiner = Refiner(RefinerConfig(widths=(16,), depths=(1,)))
    assert losses(refiner).keys() == {"flow"}
    assert refiner_debug().moment_weight == 0
    both = losses(refiner, moment_weight=0.5)
    assert both["moments"] > 0
    both["moments"].backward()
    assert refiner.network.outward.weight.grad.abs().max() > 0


def test_moments_see_roughness_and_not_its_place() -> None:
    picture_ = batch().image
    assert pyramid_moment_distance(picture_, picture_).max() == 0
    assert pyramid_moment_distance(picture_.roll(8, dims=3), picture_).max() < 1e-3
    assert pyramid_moment_distance(F.avg_pool2d(picture_, 3, 1, 1), picture_).min() > 0.5


def test_the_frozen_tokenizer_decodes_as_the_runtime_does(
    tiny_checkpoint: Path, tiny_tokenizer: ImageTokenizer
) -> None:
    frozen = FrozenTokenizer(tiny_checkpoint, CPU)
    probe = TokenSequence(
        PROBE_TOKENS, PROBE_CANVAS, tiny_tokenizer.fingerprint, PROBE_CANVAS, coding=Coding.FIXED
    )
    (decoded,) = tiny_tokenizer.decode([probe])
    # Two runtimes may round a pixel to either side.
    assert np.abs(decoded.astype(int) - frozen.probe()).max() <= 1
    pixels = picture(9, 64, 64)
    (whole,) = tiny_tokenizer.encode([pixels], coding=Coding.FIXED)
    (runtime,) = tiny_tokenizer.decode([whole.prefix(40)])
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    ours = frozen.decode(image, torch.tensor([40]))
    assert np.abs(ours.fidelity[0].permute(1, 2, 0).clamp(0, 255).numpy() - runtime).mean() < 1
    assert ours.expected_mse[0] == pytest.approx(
        tiny_tokenizer.codec.spectral.expected_mse(whole.tokens[:40], Size(64, 64)), rel=1e-6
    )


def test_a_crop_keeps_the_tokens_per_pixel() -> None:
    generator = torch.Generator().manual_seed(0)
    crop = batch().crop(Size(16, 16), generator)
    assert crop.image.shape == crop.fidelity.shape == (4, 3, 16, 16)
    assert crop.length.tolist() == [2.0, 5.0, 15.0, 50.0]


@pytest.mark.parametrize("name", REFINER_RECIPES)
def test_every_recipe_survives_its_checkpoint(name: str) -> None:
    config = REFINER_RECIPES[name]()
    assert config.name == name
    assert RefinerTrainConfig.from_dict(dataclasses.asdict(config)) == config


def test_a_checkpoint_brings_its_refiner_back(refiner_checkpoint: Path) -> None:
    refiner, state = load_refiner(refiner_checkpoint)
    assert refiner.config == refiner_debug().refiner
    assert state["tokenizer"]["name"] == "debug_tiny"


@pytest.mark.parametrize(
    "change",
    [
        {"canvas": Size(60, 64)},
        {"crop": Size(8, 8)},
        {"crop": Size(128, 64)},
        {"batch_size": 0},
        {"num_steps": 0},
        {"draws_per_decode": 0},
        {"moment_weight": -1.0},
        {"coded_share": 1.5},
        {"start_share": 1.0},
        {"walk_share": -0.1},
    ],
)
def test_a_run_that_makes_no_sense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"multiples of 16|does not fit|at least|must be in"):
        short(**change)


@pytest.mark.parametrize(
    "change", [{"widths": (20,)}, {"widths": (16, 32)}, {"noise_share": 0.0}, {"noise_share": 1.5}]
)
def test_a_refiner_that_makes_no_sense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"one depth per width|noise_share"):
        RefinerConfig(**{"widths": (16,), "depths": (1,), **change})


def test_an_unknown_recipe_is_refused_by_name(tmp_path: Path) -> None:
    from training.__main__ import refine

    with pytest.raises(typer.BadParameter, match="there are refiner_debug"):
        refine(checkpoint=tmp_path, data=[str(tmp_path)], folder=tmp_path, recipe="huge")
