"""Fit the network for signs of the range-coded form: which sign a coefficient's surroundings want."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer.contexts import (
    HIDDEN_MAX,
    LOGIT_BITS,
    NUM_SIGN_CATEGORIES,
    NUM_TAPS,
    TAP_LIMIT,
    TAP_ONE,
    ContextTables,
)
from training.binary_fit import fit_binary
from training.integer_layers import bias_integers, integers

HIDDEN = 32
# Activations carry 7 fractional bits, as in the network for significance.
ACTIVATION_BITS = 7


@dataclass(frozen=True)
class SignSample:
    """Signs met while scanning: taps i8[S, K], category i8[S], is_negative bool[S]."""

    taps: np.ndarray
    category: np.ndarray
    is_negative: np.ndarray


class _Network(nn.Module):
    """Taps in 1/8 threshold -> logit of a negative sign, odd in the taps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(NUM_TAPS, HIDDEN, bias=False)
        self.bias = nn.Embedding.from_pretrained(torch.zeros(NUM_SIGN_CATEGORIES, HIDDEN), freeze=False)
        self.second = nn.Linear(HIDDEN, 1, bias=False)

    def forward(self, taps_SK: Tensor, category_S: Tensor) -> Tensor:
        unit, bias = self.first(taps_SK.float() / TAP_ONE), self.bias(category_S)
        most = (HIDDEN_MAX + 0.5) / 2**ACTIVATION_BITS
        odd = (bias + unit).clamp(0, most) - (bias - unit).clamp(0, most)
        out: Tensor = self.second(odd)[:, 0]
        return out


def fit_signs(samples: list[SignSample], tables: ContextTables, steps: int, seed: int = 0) -> ContextTables:
    """The tables with a network for signs."""
    return _rounded(_fit(samples, steps, seed), tables)


def _fit(samples: list[SignSample], steps: int, seed: int) -> _Network:
    torch.manual_seed(seed)
    taps = torch.from_numpy(np.concatenate([s.taps for s in samples]))
    category = torch.from_numpy(np.concatenate([s.category for s in samples])).long()
    is_negative = torch.from_numpy(np.concatenate([s.is_negative for s in samples])).float()
    network = _Network()
    fit_binary(network, taps, category, is_negative, steps)
    return network


@torch.no_grad()
def _rounded(network: _Network, before: ContextTables) -> ContextTables:
    one, logit = 2.0**ACTIVATION_BITS, 2.0**LOGIT_BITS
    first, first_shift = integers(network.first.weight.T * one / TAP_ONE, TAP_LIMIT)
    second, second_shift = integers(network.second.weight[0] * logit / one, HIDDEN_MAX)
    return replace(
        before,
        sign_first=first,
        sign_bias=bias_integers(network.bias.weight * one, first_shift),
        sign_second=second,
        sign_shifts=np.asarray((first_shift, second_shift), np.int32),
    )
