"""Parameter groups, learning-rate schedule and the moving average of weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

from tokenizer.model import AdaptiveTokenizer
from training.config import OptimConfig


def build_optimizer(model: AdaptiveTokenizer, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the networks; the encoder's learn slower."""
    groups = [{"params": list(model.synthesis.parameters()), "rate_share": 1.0}]
    encoder = list(model.analysis.parameters())
    if encoder:
        groups.append({"params": encoder, "rate_share": config.encoder_rate_share})
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )


def rate_at(step: int, num_steps: int, config: OptimConfig) -> float:
    """Warm-up, plateau, linear fall to zero over the last `decay_share` of the steps."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    left = (num_steps - step) / max(1.0, config.decay_share * num_steps)
    return config.learning_rate * min(warm, 1.0, left)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_share"]


class WeightAverage:
    """Exponential moving average of a module's weights (Polyak), with a warm start.

    The decay grows as (1 + n) / (10 + n), so that short runs are not averaged with their start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.updates = copy.deepcopy(module).requires_grad_(False), decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move a little towards the module's weights."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(theirs, weight)
