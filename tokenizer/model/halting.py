"""DistortionHead: the PSNR of every candidate length in one pass, without decoding (KARL's halting).

The linear decode's error at each length is known exactly at encode time (Parseval), so only what the
decoder network adds is left to predict. Shapes: B batch, L candidate lengths, S band energies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DistortionHead(nn.Module):
    """Linear PSNR curve and log band energies -> PSNR curve that never falls."""

    def __init__(self, num_lengths: int, num_bands: int, width: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_lengths + num_bands)
        self.hidden = nn.Linear(num_lengths + num_bands, width)
        self.gain = nn.Linear(width, num_lengths)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    def forward(self, linear_psnr_db_BL: Tensor, log_energy_BS: Tensor) -> Tensor:
        """f32[B, L], f32[B, S] -> predicted PSNR in dB f32[B, L], non-decreasing along L."""
        features = self.norm(torch.cat((linear_psnr_db_BL / 10 - 2, log_energy_BS / 4), dim=1))
        raised = linear_psnr_db_BL + self.gain(F.gelu(self.hidden(features)))
        # The running maximum keeps the curve monotone; written with first value and positive steps,
        # which exports to plain ONNX operators.
        first, steps = raised[:, :1], F.relu(raised[:, 1:] - raised[:, :-1])
        return torch.cat((first, first + steps.cumsum(1)), dim=1)
