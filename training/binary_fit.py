"""How the small networks behind the odds of the range coding are fitted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BATCH = 8192


@torch.enable_grad()
def fit_binary(
    network: nn.Module, inputs_KF: Tensor, category_K: Tensor, is_true_K: Tensor, steps: int
) -> None:
    """Train `network(inputs, category)` to be the logit of `is_true`; nothing happens without samples."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps if len(inputs_KF) else 0):
        pick = torch.randint(len(inputs_KF), (BATCH,))
        logit = network(inputs_KF[pick], category_K[pick])
        loss = nn.functional.binary_cross_entropy_with_logits(logit, is_true_K[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
