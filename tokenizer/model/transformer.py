"""Pre-norm transformer blocks of the register layout. Know no pictures and no tokens.

Shapes: B batch, T tokens, S tokens that are looked at, D width. Branches start small, not at zero: between
picture and picture lie several of them in a row, and through zeros in a row no gradient comes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.model.register_config import HEAD_WIDTH


class Attention(nn.Module):
    """Multi-head attention of one sequence to another, or to itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = width // HEAD_WIDTH
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, seen_BSD: Tensor, allowed_TS: Tensor | None = None) -> Tensor:
        """[B, T, D]; where `allowed` is False, T does not see S."""
        query = self._heads(self.query(x_BTD))
        key, value = (self._heads(half) for half in self.key_value(seen_BSD).chunk(2, dim=2))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed_TS)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.reshape(*x_BTD.shape[:2], self.num_heads, HEAD_WIDTH).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two layers, four times as wide between."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )


class EncoderBlock(nn.Module):
    """x + attention(x), then x + feed-forward(x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.feed_forward = Attention(width), FeedForward(width)

    def forward(self, x_BTD: Tensor, allowed_TT: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        normed = self.norm(x_BTD)
        x_BTD = x_BTD + self.attention(normed, normed, allowed_TT)
        out: Tensor = x_BTD + self.feed_forward(self.norm_forward(x_BTD))
        return out


class DecoderBlock(nn.Module):
    """Patches look at the registers, at each other, and work: registers themselves stay as they are.

    Half the work of a block over both, and what is decoded is patches alone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_cross, self.norm, self.norm_forward = (nn.LayerNorm(width) for _ in range(3))
        self.cross, self.attention, self.feed_forward = Attention(width), Attention(width), FeedForward(width)

    def forward(self, x_BTD: Tensor, registers_BSD: Tensor) -> Tensor:
        """Patches [B, T, D], registers [B, S, D] -> patches [B, T, D]."""
        x_BTD = x_BTD + self.cross(self.norm_cross(x_BTD), registers_BSD)
        normed = self.norm(x_BTD)
        x_BTD = x_BTD + self.attention(normed, normed)
        out: Tensor = x_BTD + self.feed_forward(self.norm_forward(x_BTD))
        return out


def prefix_causal(zeros_P: Tensor, num_registers: int) -> Tensor:
    """Who sees whom, bool[T, T] of patches then registers, from zeros i64[P].

    Patches see all patches, register k besides them the registers up to k ("causal_last" of FlexTok).
    """
    order = torch.cat((zeros_P, torch.arange(1, num_registers + 1, device=zeros_P.device)))
    return order[None] <= order[:, None]


def init_weights(module: nn.Module, depth: int) -> None:
    """Normal weights of 1 / sqrt(inputs); what ends a branch is smaller, by the number of branches."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            ends_branch = name.endswith((".out", "feed_forward.2"))
            scale = (3 * depth) ** -0.5 if ends_branch else 1.0
            nn.init.normal_(layer.weight, std=scale * layer.in_features**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
