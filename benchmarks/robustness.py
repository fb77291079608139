"""How a trained model takes disturbance (a byte more, noise, int8), and how many directions its codes use.

Shapes: B pictures, H W canvas, n coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from tokenizer.canvas import Size
from tokenizer.model import AdaptiveTokenizer
from tokenizer.spectral import SpectralLayout
from training.data import PictureSet
from training.int8_graph import ACTIVATION_LIMIT, WEIGHT_LIMIT
from training.losses import squared_error
from training.regularizers import coding_rate, effective_rank, layer_weights, leading_codes

BYTE_COUNTS = (16, 64, 256)
NEXT_BYTES = 4
"""How many single bytes are added to each of these."""
NOISE_LEVELS = 2.0
"""Deviation of the noise before the decoder, in grey levels."""
RATE_EPS, CODE_DIMENSIONS = 0.5, 16
"""As the regularizer counts by default, but over all held-out pictures."""
CPU = torch.device("cpu")


class Robustness:
    """A model and held-out pictures, each fact a method. All in fp32."""

    @torch.no_grad()
    def __init__(self, model: AdaptiveTokenizer, pictures: PictureSet, canvas: Size) -> None:
        (pixels,) = pictures.centre_batches(len(pictures), canvas)
        self.model, self.canvas = model.to(CPU), canvas
        self.image = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float()
        self.basis, self.quantizer = model.basis(canvas, CPU), model.quantizer(canvas, CPU)
        self.coefficients, _, _ = model.analysis(self.image, *self.basis)
        layout = SpectralLayout(model.tables)
        chosen = [layout.choose_class(c, canvas) for c in self.coefficients.numpy()]
        self.classes = torch.tensor(chosen)

    def psnr_db(self) -> dict[int, float]:
        """Mean PSNR at each of BYTE_COUNTS."""
        return {count: float(self._psnr_db(count).mean()) for count in BYTE_COUNTS}

    def more_bytes_cost_share(self) -> float:
        """How often the next byte lowers a picture's PSNR, of single bytes after each of BYTE_COUNTS."""
        costs = []
        for count in BYTE_COUNTS:
            rows = [self._psnr_db(count + more) for more in range(NEXT_BYTES + 1)]
            costs += [after < before for before, after in pairwise(rows)]
        return float(torch.stack(costs).float().mean())

    @torch.no_grad()
    def noise_gain(self) -> float:
        """Deviation of what noise before the decoder changes behind it / that of the noise."""
        gains = []
        for count in BYTE_COUNTS:
            linear, told = self._linear(count)
            noise = torch.randn(linear.shape, generator=torch.Generator().manual_seed(0)) * NOISE_LEVELS
            refine = self.model.synthesis.refine
            gains.append((refine(linear + noise, *told) - refine(linear, *told)).std() / noise.std())
        return float(torch.stack(gains).mean())

    def int8_loss_db(self) -> dict[int, float]:
        """PSNR that rounding the decoder's convolutions costs at each of BYTE_COUNTS."""
        before = self.psnr_db()
        with rounded_to_int8(self.model.synthesis):
            after = self.psnr_db()
        return {count: before[count] - after[count] for count in BYTE_COUNTS}

    def worst_norm(self) -> float:
        """Largest spectral norm of a layer, exact."""
        weights = [weight.detach().flatten(1) for _, weight in layer_weights(self.model)]
        return max(float(torch.linalg.matrix_norm(weight, ord=2)) for weight in weights)

    def coding_rate(self) -> float:
        """Nats per dimension of the leading codes on the unit sphere."""
        return float(coding_rate(self._codes(), RATE_EPS) / CODE_DIMENSIONS)

    def effective_rank(self) -> float:
        """Directions that the leading codes use, of CODE_DIMENSIONS."""
        return effective_rank(self._codes())

    def _codes(self) -> Tensor:
        flat = self.coefficients.flatten(1)
        codes = leading_codes(flat, self.quantizer.sigmas, self.classes, CODE_DIMENSIONS)
        return nn.functional.normalize(codes, dim=1)

    def _linear(self, count: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What the decoder network gets: the linear picture, and what it is told."""
        length = torch.full_like(self.classes, count)
        means = self.quantizer(self.coefficients.flatten(1), self.classes, length)
        linear = self.model.synthesis.linear(means.unflatten(1, self.coefficients.shape[1:]), *self.basis)
        return linear, (length.float(), self.quantizer.expected_mse(self.classes, length))

    @torch.no_grad()
    def _psnr_db(self, count: int) -> Tensor:
        linear, told = self._linear(count)
        error = squared_error(self.model.synthesis.refine(linear, *told).clamp(0, 255), self.image)
        return 10 * torch.log10(255.0**2 / error.clamp_min(1e-6))


@contextmanager
def rounded_to_int8(module: nn.Module) -> Iterator[None]:
    """Within, convolutions round as in `training.int8_graph`: weights, and what they read and write.

    Ranges are those of the batch, so this says which of two models takes int8 better, and not to the last
    hundredth what the shipped graph loses.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    kept = [layer.weight.detach().clone() for layer in layers]
    hooks = [layer.register_forward_pre_hook(lambda _, inputs: (_round(inputs[0]),)) for layer in layers]
    hooks += [layer.register_forward_hook(lambda _, inputs, output: _round(output)) for layer in layers]
    try:
        with torch.no_grad():
            for layer in layers:
                scale = layer.weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12) / WEIGHT_LIMIT
                layer.weight.copy_((layer.weight / scale).round() * scale)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.weight.copy_(weight)


def _round(values: Tensor) -> Tensor:
    low, high = values.amin().clamp(max=0), values.amax().clamp_min(0)
    scale = (high - low).clamp_min(1e-6) / ACTIVATION_LIMIT
    return ((values / scale).round() * scale).clamp(low, high)
