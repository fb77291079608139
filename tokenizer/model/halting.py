"""DistortionHead: the PSNR of every candidate length in one pass, without decoding (KARL's halting).

The linear decode's error at each length is known exactly at encode time (Parseval), so only what the
decoder network adds is left to predict. Shapes: B batch, L candidate lengths, S features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DistortionHead(nn.Module):
    """Linear PSNR curve and features of the picture -> PSNR curve that never falls."""

    mean: Tensor
    std: Tensor

    def __init__(self, num_lengths: int, num_features: int, width: int = 64) -> None:
        super().__init__()
        num_inputs = num_lengths + num_features
        # Standardisation, set from the pictures that the head is fitted on.
        self.register_buffer("mean", torch.zeros(num_inputs))
        self.register_buffer("std", torch.ones(num_inputs))
        self.hidden = nn.Linear(num_inputs, width)
        self.gain = nn.Linear(width, num_lengths)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    def forward(self, linear_psnr_db_BL: Tensor, features_BS: Tensor) -> Tensor:
        """f32[B, L], f32[B, S] -> predicted PSNR in dB f32[B, L], non-decreasing along L."""
        inputs = (torch.cat((linear_psnr_db_BL, features_BS), dim=1) - self.mean) / self.std
        # Beyond four deviations lies what no picture of the fit had: say what the nearest would have.
        inputs = inputs.clamp(-4.0, 4.0)
        raised = linear_psnr_db_BL + self.gain(F.gelu(self.hidden(inputs)))
        # The running maximum keeps the curve monotone; written with first value and positive steps,
        # which exports to plain ONNX operators.
        first, steps = raised[:, :1], F.relu(raised[:, 1:] - raised[:, :-1])
        return torch.cat((first, first + steps.cumsum(1)), dim=1)
