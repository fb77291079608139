"""Flow: one draw of times and noises for a batch of decodes, and the refiner's answer. Updates no weights.

Shapes: B pictures, H W crop. All pictures are residuals to the fidelity picture in units of r, the deviation
of the expected error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tokenizer.model import Refiner
from tokenizer.model.refiner import residual_scale
from tokenizer.realism import time_grid, warp
from training.frozen_tokenizer import Decoded
from training.losses import pyramid_moment_distance
from training.precision import autocast

# Walks of so many steps are what the sampler does most; more of them would cost more than they teach.
WALK_STEPS = (2, 4)


@dataclass(frozen=True)
class Flow:
    """Where each picture's way was entered, and where it was meant to go."""

    time: Tensor
    """t in 0..1, f32[B]."""
    state: Tensor
    """y_t, [B, 3, H, W]."""
    start: Tensor
    """y_0: noise."""
    end: Tensor
    """y_1: the real picture."""
    velocity: Tensor
    """The refiner's answer at y_t."""
    walked: bool
    """True if the refiner itself came to y_t, so that nothing of the real picture is in it."""

    @property
    def reached(self) -> Tensor:
        """y_t + (1 - t) v: where one step from y_t ends."""
        return self.state + (1 - self.time)[:, None, None, None] * self.velocity


def draw_flow(refiner: Refiner, batch: Decoded, generator: torch.Generator, start_share: float) -> Flow:
    """On the straight way: times as dense as the sampler's steps (`warp`), this share of them 0."""
    place = torch.rand(len(batch.length), generator=generator)
    time_B = warp(((place - start_share) / (1 - start_share)).clamp_min(0)).to(batch.image.device)
    start, end = _ends(refiner, batch, generator)
    t = time_B[:, None, None, None]
    state = (1 - t) * start + t * end
    return Flow(time_B, state, start, end, _velocity(refiner, batch)(state, time_B), walked=False)


def draw_walk(refiner: Refiner, batch: Decoded, generator: torch.Generator) -> Flow:
    """On the way that the sampler takes, after 1, 2 or 3 of its steps.

    There the refiner meets its own detail in place of real detail. One that has seen only the straight way
    takes it for knowledge and adds to it with every step.
    """
    steps = WALK_STEPS[int(torch.randint(len(WALK_STEPS), (1,), generator=generator))]
    taken = 1 + int(torch.randint(steps - 1, (1,), generator=generator))
    times = time_grid(steps)[: taken + 1].tolist()
    start, end = _ends(refiner, batch, generator)
    velocity, ones, state = _velocity(refiner, batch), torch.ones_like(batch.expected_mse), start
    with torch.no_grad():
        for now, then in pairwise(times):
            state = state + (then - now) * velocity(state, now * ones)
    time_B = times[-1] * ones
    return Flow(time_B, state, start, end, velocity(state, time_B), walked=True)


def _ends(refiner: Refiner, batch: Decoded, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(noise, real picture)."""
    scale = residual_scale(batch.expected_mse)[:, None, None, None]
    noise = torch.randn(batch.image.shape, generator=generator).to(batch.image.device)
    return refiner.config.noise_share * noise, (batch.image - batch.fidelity) / scale


def _velocity(refiner: Refiner, batch: Decoded) -> Callable[[Tensor, Tensor], Tensor]:
    """The refiner on these pictures: y_t and t -> v."""

    def velocity(state: Tensor, time_B: Tensor) -> Tensor:
        with autocast(state.device):
            return refiner.normalised(state, batch.fidelity, time_B, batch.length, batch.expected_mse)

    return velocity


def flow_losses(flow: Flow, batch: Decoded, moment_weight: float = 0.0) -> dict[str, Tensor]:
    """Squared error of the velocity on the straight way (PMRF, eq. 8), of the endpoint on a walk.

    In units of the expected error. With a weight, also the moments of the one-step endpoint; it is a sample
    near t = 1 only, so it counts by t.
    """
    if flow.walked:
        losses = {"walk": (flow.reached - flow.end).square().mean()}
    else:
        losses = {"flow": (flow.velocity - (flow.end - flow.start)).square().mean()}
    if moment_weight:
        scale = residual_scale(batch.expected_mse)[:, None, None, None]
        distance = pyramid_moment_distance(batch.fidelity + scale * flow.reached, batch.image)
        losses["moments"] = moment_weight * (flow.time * distance).mean()
    return losses
