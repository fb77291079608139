"""The embedded quantizer in torch, equal to tokenizer.spectral cell for cell. Knows no pictures.

Shapes: B batch, n = 3 * bh * bw coefficients, M bits, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tokenizer.canvas import Size
from tokenizer.model.nested_dropout import keep_mask
from tokenizer.spectral import BITS_PER_TOKEN, SpectralLayout, SpectralTables, block_size


class EmbeddedQuantizer(nn.Module):
    """Coefficients -> conditional means of any prefix, for one canvas, with a straight-through gradient."""

    # Buffers, so that they follow the module to its device.
    orders: Tensor
    sigmas: Tensor
    expected: Tensor
    group: Tensor
    reconstruction: Tensor
    thresholds: Tensor

    def __init__(self, tables: SpectralTables, canvas: Size) -> None:
        super().__init__()
        layout = SpectralLayout(tables)
        orders = [layout.order(k, canvas) for k in range(tables.num_classes)]
        self.num_planes, self.max_tokens = tables.num_planes, layout.max_tokens(canvas)
        self.block = block_size(canvas)
        self.register_buffer("orders", _stack([o.coefficient for o in orders]), persistent=False)
        self.register_buffer("sigmas", _stack([o.sigma for o in orders]), persistent=False)
        self.register_buffer("expected", _stack([o.expected_mse for o in orders]), persistent=False)
        self.register_buffer("group", torch.from_numpy(layout.groups(canvas).copy()), persistent=False)
        self.register_buffer("reconstruction", torch.from_numpy(tables.reconstruction), persistent=False)
        self.register_buffer("thresholds", torch.from_numpy(tables.thresholds), persistent=False)

    def cells(self, coefficients_Bn: Tensor, class_B: Tensor) -> Tensor:
        """Finest cell of every coefficient, i64[B, n]."""
        return torch.bucketize(coefficients_Bn / self.sigmas[class_B], self.thresholds, right=True)

    def planes_sent(self, class_B: Tensor, length_B: Tensor) -> Tensor:
        """How many bits of each coefficient a prefix holds, i64[B, n]: the keep mask, summed."""
        order = self.orders[class_B].long()
        # Token 0 names the class; each kept token after it brings the next eight bits.
        kept = keep_mask(length_B, self.max_tokens)[:, 1:].repeat_interleave(BITS_PER_TOKEN, dim=1)
        planes = torch.zeros(len(order), self.sigmas.shape[1], dtype=torch.int64, device=order.device)
        return planes.scatter_add_(1, order, kept.long())

    def forward(self, coefficients_Bn: Tensor, class_B: Tensor, length_B: Tensor) -> Tensor:
        """Conditional means f32[B, n] after `length` tokens.

        The gradient passes straight through (Bengio et al. 2013) wherever at least one bit is sent.
        """
        planes = self.planes_sent(class_B, length_B)
        cells = self.cells(coefficients_Bn.detach(), class_B)
        heap = (1 << planes) + (cells >> (self.num_planes - planes))
        means = self.reconstruction[self.group.expand_as(heap), heap] * self.sigmas[class_B]
        sent = (planes > 0).to(means.dtype)
        return means + (coefficients_Bn - coefficients_Bn.detach()) * sent

    def expected_mse(self, class_B: Tensor, length_B: Tensor) -> Tensor:
        """Class statistics' squared error per pixel and colour after `length` tokens, f32[B]."""
        return self.expected[class_B, length_B] / 3


def _stack(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
