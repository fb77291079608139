"""Nested dropout: how long a prefix each picture is trained with (Rippel et al., ICML 2014).

The prefix is a boolean mask computed from the length, never a change of what was given.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sample_lengths(
    batch_size: int, max_tokens: int, min_tokens: int, generator: torch.Generator, uniform_share: float = 0.5
) -> Tensor:
    """Prefix lengths, i64[B] in min_tokens..max_tokens: half uniform, half log-uniform.

    Uniform alone would almost never train the short prefixes, log-uniform alone starves the long.
    """
    r = torch.rand(batch_size, generator=generator)
    uniform = min_tokens + r * (max_tokens - min_tokens)
    logarithmic = min_tokens * torch.exp(r * math.log(max_tokens / min_tokens))
    is_uniform = torch.rand(batch_size, generator=generator) < uniform_share
    return torch.where(is_uniform, uniform, logarithmic).round().long().clamp(min_tokens, max_tokens)


def keep_mask(lengths_B: Tensor, max_tokens: int) -> Tensor:
    """True for the first `length` tokens of each picture. Returns bool[B, N]."""
    return torch.arange(max_tokens, device=lengths_B.device) < lengths_B[:, None]
