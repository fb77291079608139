"""Refiner: the velocity of a flow from the fidelity picture to a picture that looks real (PMRF).

Ohayon, Michaeli, Elad: Posterior-Mean Rectified Flow, ICLR 2025. The fidelity decode x_hat is the mean of
all pictures with these tokens, hence smooth. The flow moves it to one of them:

    y_0 = x_hat + sigma * noise      sigma = noise_share * r,  r = sqrt(expected error of this prefix)
    y_1 = x                          a real picture with these tokens
    y_t = (1 - t) y_0 + t y_1        the straight way between them
    v   = E[y_1 - y_0 | y_t, x_hat, length]      what the network learns, by squared error

All is divided by r inside, so that every prefix asks the same of the network: the residual y_t - x_hat has
about unit variance at t = 1 whether it was cut at 16 bytes or at 2048.

Shapes: B batch, H W canvas. Pictures in 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokenizer.canvas import DEFAULT_AREA_PX
from tokenizer.model.adaptive_tokenizer import PIXEL_SCALE
from tokenizer.model.layers import ResidualUNet, log2_features, trust
from tokenizer.realism import MIN_EXPECTED_MSE


@dataclass(frozen=True)
class RefinerConfig:
    """Size of the network, and how much noise the flow starts with."""

    widths: tuple[int, ...] = (48, 96, 192)
    depths: tuple[int, ...] = (1, 2, 3)
    condition_width: int = 128
    """Numbers that time, length and expected error become before they steer the blocks."""
    noise_share: float = 0.1
    """Start noise / expected residual, both as standard deviations. Without noise the flow could give one
    picture only, and the start would lie on a surface without volume, where a velocity cannot be learned
    (PMRF, section 3). 0.1 of the deviation is 0.01 of the error: left in the picture it costs 0.04 dB."""

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths) or not self.widths or any(w % 16 for w in self.widths):
            raise ValueError(
                f"one depth per width, widths multiples of 16, got {self.widths} and {self.depths}"
            )
        if not 0 < self.noise_share <= 1:
            raise ValueError(f"noise_share must be in 0..1 and not 0, got {self.noise_share}")


class Refiner(nn.Module):
    """One step of the flow: what export turns into `refiner.onnx`. Stands still before training."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        self.network = ResidualUNet(
            config.widths, config.depths, 4, condition_width=config.condition_width, input_channels=6
        )

    def forward(
        self,
        state_B3HW: Tensor,
        fidelity_B3HW: Tensor,
        time_B: Tensor,
        length_B: Tensor,
        expected_mse_B: Tensor,
    ) -> Tensor:
        """y_t, x_hat, t in 0..1, tokens kept, expected error -> velocity in pixels per time [B, 3, H, W]."""
        scale = residual_scale(expected_mse_B)[:, None, None, None]
        residual = (state_B3HW - fidelity_B3HW) / scale
        return scale * self.normalised(residual, fidelity_B3HW, time_B, length_B, expected_mse_B)

    def normalised(
        self,
        residual_B3HW: Tensor,
        fidelity_B3HW: Tensor,
        time_B: Tensor,
        length_B: Tensor,
        expected_mse_B: Tensor,
    ) -> Tensor:
        """The same with (y_t - x_hat) / r in and velocity / r out: what training compares."""
        area = fidelity_B3HW.shape[2] * fidelity_B3HW.shape[3]
        equivalent = length_B * (DEFAULT_AREA_PX / area)
        spread = self.spread(time_B)
        picture = torch.cat(
            (residual_B3HW / spread[:, None, None, None], fidelity_B3HW / PIXEL_SCALE - 1), dim=1
        )
        moment = torch.stack((2 * time_B - 1, torch.log2(spread) / 2 + 1), dim=1)
        conditions = torch.cat((moment, log2_features(equivalent, expected_mse_B)), dim=1)
        velocity: Tensor = self.network(picture, conditions)
        return velocity.float() * trust(equivalent)[:, None, None, None]

    def spread(self, time_B: Tensor) -> Tensor:
        """Expected deviation of the residual at t over r, [B]; dividing by it keeps the input at unit
        variance all the way (Karras et al. 2022, the preconditioning c_in)."""
        noise = (1 - time_B) * self.config.noise_share
        return torch.sqrt(noise.square() + time_B.square())


def residual_scale(expected_mse_B: Tensor) -> Tensor:
    """r: expected deviation of a real picture from its fidelity decode, f32[B]."""
    return torch.sqrt(expected_mse_B.clamp_min(MIN_EXPECTED_MSE))
