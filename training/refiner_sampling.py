"""Reference sampler of the refiner: torch, with diffusers' scheduler. The runtime has its own loop."""

from __future__ import annotations

import torch
from torch import Tensor

from tokenizer.model import Refiner
from tokenizer.model.refiner import residual_scale
from tokenizer.realism import time_grid


@torch.no_grad()
def sample(
    refiner: Refiner,
    fidelity_B3HW: Tensor,
    length_B: Tensor,
    expected_mse_B: Tensor,
    noise_B3HW: Tensor,
    steps: int,
) -> Tensor:
    """Fidelity decodes in 0..255 and standard normal noise -> pictures that could be real [B, 3, H, W].

    diffusers lets sigma fall from 1 (noise) to 0 (data) and means velocity towards the noise; so sigma is
    1 - t, and the velocity changes its sign. The sigmas are given: the scheduler's own end at 1/1000
    before 0, which wastes the last step.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    times = time_grid(steps)
    scheduler.set_timesteps(sigmas=(1 - times[:-1]).tolist())
    scale = residual_scale(expected_mse_B)[:, None, None, None]
    state = fidelity_B3HW + refiner.config.noise_share * scale * noise_B3HW
    for timestep, time in zip(scheduler.timesteps, times[:-1], strict=True):
        time_B = torch.full_like(length_B, float(time))
        velocity = refiner(state, fidelity_B3HW, time_B, length_B, expected_mse_B)
        state = scheduler.step(-velocity, timestep, state).prev_sample
    return state
