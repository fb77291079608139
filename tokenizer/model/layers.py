"""The residual U-Net that stands before and after the transform. Knows no tokens.

Shapes: B batch, C channels, H W pixels (multiples of 16), h w the grid of a level, D condition width.

    image [B,3,H,W] → unshuffle 4 → level 0 (H/4) → level 1 (H/8) → level 2 (H/16)
                                  → back up, each level adding its own → shuffle 4 → residual

Half of the work stands at H/16, where one cell sees far: what low byte counts lack is large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DOWNSCALE = 4


class ResidualBlock(nn.Module):
    """x + conv(relu(scale * conv(x) + shift)), scale and shift from the condition; starts as the identity.

    No normalisation: with it a CPU trained 3 times fewer pictures per second, and the identity start
    with clipped gradients is stable without (docs/log.md).
    """

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(condition_width, 2 * width)
        for layer in (self.second, self.modulation):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x_BChw: Tensor, condition_BD: Tensor) -> Tensor:
        """[B, C, h, w], [B, D] -> [B, C, h, w]."""
        scale, shift = self.modulation(condition_BD)[:, :, None, None].chunk(2, dim=1)
        hidden = F.relu(torch.addcmul(shift, self.first(x_BChw), 1 + scale))
        out: Tensor = self.second(hidden)
        return x_BChw + out


class Stage(nn.ModuleList):
    """Blocks of one level, one after the other."""

    def __init__(self, width: int, depth: int, condition_width: int) -> None:
        super().__init__(ResidualBlock(width, condition_width) for _ in range(depth))

    def forward(self, x_BChw: Tensor, condition_BD: Tensor) -> Tensor:
        """[B, C, h, w], [B, D] -> [B, C, h, w]."""
        for block in self:
            x_BChw = block(x_BChw, condition_BD)
        return x_BChw


class ResidualUNet(nn.Module):
    """Picture and condition -> a correction of the picture; exactly zero before training."""

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        num_conditions: int,
        condition_width: int = 128,
        input_channels: int = 3,
    ) -> None:
        super().__init__()
        pixels = 3 * DOWNSCALE**2
        self.condition = nn.Sequential(
            nn.Linear(num_conditions, condition_width), nn.SiLU(), nn.Linear(condition_width, condition_width)
        )
        self.inward = nn.Conv2d(input_channels * DOWNSCALE**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.encoder = nn.ModuleList(
            Stage(w, d, condition_width) for w, d in zip(widths, depths, strict=True)
        )
        self.decoder = nn.ModuleList(
            Stage(w, d, condition_width) for w, d in zip(widths[:-1], depths[:-1], strict=True)
        )
        self.outward = nn.Conv2d(widths[0], pixels, 3, padding=1)
        nn.init.zeros_(self.outward.weight)
        assert self.outward.bias is not None
        nn.init.zeros_(self.outward.bias)

    def forward(self, image_BCHW: Tensor, conditions: Tensor) -> Tensor:
        """[B, input_channels, H, W] about -1..1 and [B, K] -> residual [B, 3, H, W]."""
        condition_BD: Tensor = self.condition(conditions)
        x: Tensor = self.inward(F.pixel_unshuffle(image_BCHW, DOWNSCALE))
        skips: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            x = stage(x, condition_BD)
            if level < len(self.down):
                skips.append(x)
                x = self.down[level](x)
        for level in reversed(range(len(self.decoder))):
            x = skips[level] + F.pixel_shuffle(self.up[level](x), 2)
            x = self.decoder[level](x, condition_BD)
        return F.pixel_shuffle(self.outward(x), DOWNSCALE)


# The longest prefix per pixel that training sees: 2048 tokens on 256 x 256.
MAX_LENGTH_EQUIVALENT = 2048.0


def log2_features(length_equivalent_B: Tensor, expected_mse_B: Tensor) -> Tensor:
    """What the decoder is told: log2 length and log2 expected error, both about -1..1, [B, 2].

    `length_equivalent` = tokens a 256x256 canvas would have at the same bits per pixel. The expected
    error adds what the length alone cannot say: how rough this picture's class is.
    """
    length = torch.log2(1 + length_equivalent_B.clamp(max=MAX_LENGTH_EQUIVALENT)) / 6 - 1
    error = torch.log2(expected_mse_B.clamp_min(1.0)) / 8 - 1
    return torch.stack((length, error), dim=1)


def trust(length_equivalent_B: Tensor) -> Tensor:
    """Weight of the learned correction, [B]: 1 where it was trained, fading beyond the longest prefix.

    Tiny canvases hold far more bits per pixel than training saw; there the linear codec is near exact.
    """
    return (MAX_LENGTH_EQUIVALENT / length_equivalent_B.clamp_min(1.0)).clamp(max=1.0)


def parameter_count(module: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(math.prod(p.shape) for p in module.parameters())
