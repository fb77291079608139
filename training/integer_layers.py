"""Float weights -> the whole numbers that both sides of the wire compute with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tokenizer.contexts import EXACT_BELOW


def integers(weight: Tensor, largest_input: float) -> tuple[np.ndarray, int]:
    """Whole numbers i16 and their fractional bits: sums over inputs (first axis) stay below half of 2^24."""
    sums = weight.abs().sum(0).max().item() * largest_input
    largest = weight.abs().max().item()
    shift = int(np.floor(min(np.log2(EXACT_BELOW / 2 / sums), np.log2(32767 / largest))))
    return torch.round(weight * 2.0**shift).numpy().astype(np.int16), shift


def bias_integers(bias: Tensor, shift: int) -> np.ndarray:
    """Biases i32 of a layer with so many fractional bits, in units of its output."""
    limit = EXACT_BELOW / 2 - 1
    # Half a unit more: the shift rounds down.
    return torch.round((bias + 0.5) * 2.0**shift).clamp(-limit, limit).numpy().astype(np.int32)
