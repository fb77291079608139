"""The critic: what it sees, and that realism costs what it was told to cost."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from generated_pictures import picture

from tokenizer.model import Refiner, RefinerConfig
from tokenizer.model.refiner import residual_scale
from training.adversary import WAYS, Adversary, AdversaryConfig, Critic
from training.data import PictureSet
from training.flow import Flow, draw_flow, draw_walk
from training.frozen_tokenizer import Decoded
from training.realism import RefinerTrainer
from training.recipes import refiner_debug

CONFIG = AdversaryConfig(psnr_loss_db=1.0, widths=(16, 16, 16), learning_rate=2e-3)


def batch() -> Decoded:
    """Rough pictures behind flat fidelity decodes."""
    generator = torch.Generator().manual_seed(0)
    expected = torch.tensor([400.0, 100.0])
    noise = torch.randn(2, 3, 32, 32, generator=generator)
    fidelity = torch.full((2, 3, 32, 32), 128.0)
    image = fidelity + residual_scale(expected)[:, None, None, None] * noise
    return Decoded(image, fidelity, torch.tensor([20.0, 60.0]), expected)


def first_step(refiner: Refiner, seed: int) -> Flow:
    return draw_flow(refiner, batch(), torch.Generator().manual_seed(seed), start_share=0.99)


@pytest.fixture
def refiner() -> Refiner:
    torch.manual_seed(0)
    return Refiner(RefinerConfig(widths=(16,), depths=(1,)))


@pytest.fixture
def adversary() -> Adversary:
    torch.manual_seed(0)
    return Adversary(CONFIG, torch.device("cpu"))


def test_the_critic_learns_to_tell_smooth_from_rough(adversary: Adversary, refiner: Refiner) -> None:
    losses = [adversary.play(first_step(refiner, seed), batch())[0] for seed in range(25)]
    assert losses[0] == pytest.approx(math.log(2), abs=0.1)
    assert losses[-1] < 0.7 * losses[0]


def test_the_critic_pulls_the_refiner_away_from_the_mean(adversary: Adversary, refiner: Refiner) -> None:
    for seed in range(25):
        _, term = adversary.play(first_step(refiner, seed), batch())
    term.backward()
    assert refiner.network.outward.weight.grad is not None
    assert refiner.network.outward.weight.grad.abs().max() > 0
    assert all(p.grad is None or not p.requires_grad for p in adversary.critic.parameters())


def test_the_critic_sees_every_pixel_at_bounded_slope() -> None:
    torch.manual_seed(0)
    critic, one = Critic((16, 16, 16)).eval(), batch()
    residual = torch.zeros_like(one.image, requires_grad=True)
    critic(residual, one, torch.zeros(2)).sum().backward()
    assert residual.grad is not None
    assert (residual.grad.abs().sum(1) > 0).float().mean() > 0.99
    assert critic(residual, one, torch.zeros(2)).shape == (2, 8 * 8 + 4 * 4)


def test_a_first_step_that_costs_too_little_gives_the_critic_more_weight(
    adversary: Adversary, refiner: Refiner
) -> None:
    """A refiner at rest shows nearly the fidelity picture, which costs nothing."""
    before = dict(adversary.weights)
    adversary.play(first_step(refiner, 0), batch())
    assert adversary.weights["straight"] > before["straight"]
    assert adversary.weights["walk"] == before["walk"]


def test_a_walk_that_costs_too_much_gives_it_less(adversary: Adversary, refiner: Refiner) -> None:
    walk = draw_walk(refiner, batch(), torch.Generator().manual_seed(0))
    # All the detail there is, at the wrong places: 3 dB.
    wrong = dataclasses.replace(walk, velocity=(walk.end.roll(8, 3) - walk.state) / (1 - walk.time[0]))
    for _ in range(60):
        adversary.play(wrong, batch())
    assert adversary.prices_db["walk"] == pytest.approx(3 * (1 - 0.98**60), abs=0.2)
    assert adversary.weights["walk"] < 0.9 * CONFIG.first_weight


def test_states_with_something_of_the_real_picture_are_not_priced(
    adversary: Adversary, refiner: Refiner
) -> None:
    flow = draw_flow(refiner, batch(), torch.Generator().manual_seed(0), start_share=0.0)
    assert flow.time.min() > 0
    adversary.play(flow, batch())
    assert adversary.weights == dict.fromkeys(WAYS, CONFIG.first_weight)


def test_a_run_with_a_critic_resumes_where_it_was(tiny_checkpoint: Path, tmp_path: Path) -> None:
    made = tuple(picture(seed, 64, 80) for seed in range(300, 306))
    pictures = PictureSet(tuple(str(number) for number in range(len(made))), made)

    def run(folder: str, steps: int) -> RefinerTrainer:
        config = dataclasses.replace(
            refiner_debug(),
            adversary=dataclasses.replace(CONFIG, from_step=2),
            walk_share=0.5,
            batch_size=2,
            num_steps=steps,
            # The rate must not depend on where this run ends.
            optim=dataclasses.replace(refiner_debug().optim, decay_share=1e-9),
        )
        trainer = RefinerTrainer(config, tiny_checkpoint, pictures, tmp_path / folder)
        trainer.run()
        return trainer

    unbroken = run("unbroken", 8)
    run("broken", 5)
    resumed = run("broken", 8)
    expected = unbroken.average.module.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in resumed.average.module.state_dict().items())
    assert unbroken.adversary is not None
    assert resumed.adversary is not None
    assert resumed.adversary.weights == unbroken.adversary.weights


@pytest.mark.parametrize(
    "change", [{"psnr_loss_db": -1.0}, {"from_step": -1}, {"first_weight": 0.0}, {"learning_rate": 0.0}]
)
def test_an_adversary_that_makes_no_sense_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=r"at least 0|above 0"):
        dataclasses.replace(CONFIG, **change)
