"""DistortionHead: the PSNR of every candidate length in one pass, without decoding (KARL's halting).

The linear decode's error at each length is known exactly at encode time (Parseval), so only what the
decoder network adds is left to predict, and how unsure that prediction is.

    blocks [B, N, K] ─ the same small network on each ─ mean over blocks ─┐
    linear curve [B, L], features [B, S] ─────────────────────────────────┴─ MLP ─ gain [B, L], spread [B, L]

Shapes: B batch, L candidate lengths, S numbers of the picture, N blocks, K numbers per block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A predicted spread lies within these: 0.005 to 5 dB.
MIN_LOG_SPREAD, MAX_LOG_SPREAD = -5.3, 1.6


@dataclass(frozen=True)
class HeadSizes:
    """Numbers that go in and come out, and widths between."""

    num_lengths: int
    num_features: int
    num_block_features: int
    block_width: int = 48
    width: int = 96


class DistortionHead(nn.Module):
    """Linear PSNR curve, features and blocks of the picture -> PSNR curve that never falls, and its spread.

    Several members, fitted from different starts; their mean errs less than each.
    """

    def __init__(self, sizes: HeadSizes, num_members: int = 1) -> None:
        super().__init__()
        self.sizes = sizes
        self.linear, self.features, self.blocks = (
            Standardisation(count)
            for count in (sizes.num_lengths, sizes.num_features, sizes.num_block_features)
        )
        self.members = nn.ModuleList(HeadMember(sizes) for _ in range(num_members))

    def forward(
        self, linear_psnr_db_BL: Tensor, features_BS: Tensor, blocks_BNK: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predicted PSNR in dB f32[B, L], non-decreasing along L, and its spread in dB f32[B, L], above 0."""
        gains, spreads = zip(*self.each_member(linear_psnr_db_BL, features_BS, blocks_BNK), strict=True)
        raised = linear_psnr_db_BL + torch.stack(gains).mean(0)
        # The running maximum keeps the curve monotone; written with first value and positive steps,
        # which exports to plain ONNX operators.
        first, steps = raised[:, :1], F.relu(raised[:, 1:] - raised[:, :-1])
        return torch.cat((first, first + steps.cumsum(1)), dim=1), torch.stack(spreads).mean(0)

    def each_member(
        self, linear_psnr_db_BL: Tensor, features_BS: Tensor, blocks_BNK: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """(gain, spread) in dB of each member, f32[B, L] each."""
        linear, features = self.linear(linear_psnr_db_BL), self.features(features_BS)
        blocks = self.blocks(blocks_BNK)
        return [member(linear, features, blocks) for member in self.members]


class Standardisation(nn.Module):
    """Zero mean and unit deviation over the pictures of the fit, along the last dimension.

    Beyond four deviations lies what none of them had: say what the nearest would have.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))

    def fit(self, values: Tensor) -> None:
        """Take mean and deviation of these."""
        flat = values.flatten(0, -2)
        self.mean.copy_(flat.mean(0))
        self.std.copy_(flat.std(0).clamp_min(1e-2))

    def forward(self, values: Tensor) -> Tensor:
        """f32[..., count] -> f32[..., count] in -4..4."""
        return ((values - self.mean) / self.std).clamp(-4.0, 4.0)


class HeadMember(nn.Module):
    """One network of the head, on standardised inputs; it starts as no gain at all."""

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        # What a block is worth depends on how coarse the decode of the whole picture is.
        self.block_inward = nn.Linear(sizes.num_block_features, sizes.block_width)
        self.block_context = nn.Linear(sizes.num_lengths, sizes.block_width, bias=False)
        self.block_hidden = nn.Linear(sizes.block_width, sizes.block_width)
        self.inward = nn.Linear(sizes.num_lengths + sizes.num_features + sizes.block_width, sizes.width)
        self.hidden = nn.Linear(sizes.width, sizes.width)
        self.gain = nn.Linear(sizes.width, sizes.num_lengths)
        self.log_spread = nn.Linear(sizes.width, sizes.num_lengths)
        for layer in (self.gain, self.log_spread):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.gain.bias)
        nn.init.constant_(self.log_spread.bias, -2.3)  # 0.1 dB

    def forward(self, linear_BL: Tensor, features_BS: Tensor, blocks_BNK: Tensor) -> tuple[Tensor, Tensor]:
        """(gain, spread) in dB, f32[B, L] each."""
        blocks = F.gelu(self.block_inward(blocks_BNK) + self.block_context(linear_BL)[:, None])
        pooled = F.gelu(self.block_hidden(blocks)).mean(1)
        hidden = F.gelu(self.inward(torch.cat((linear_BL, features_BS, pooled), dim=1)))
        hidden = hidden + F.gelu(self.hidden(hidden))
        return self.gain(hidden), self.log_spread(hidden).clamp(MIN_LOG_SPREAD, MAX_LOG_SPREAD).exp()
