"""FrozenTokenizer: a trained tokenizer that shows what prefixes of pictures decode to. Trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.model import AdaptiveTokenizer, RegisterConfig
from tokenizer.preprocess import from_model_output
from tokenizer.spectral import SpectralLayout
from training.checkpoint import config_from_dict, contexts_from_dict, load_checkpoint, tables_from_dict
from training.coded_batches import CodedBatch
from training.precision import autocast

PROBE_CANVAS = Size(64, 64)
# Class 1, then bits of every kind: any change of tables or decoder shows in the picture.
PROBE_TOKENS = bytes((1 + 37 * position) % 256 for position in range(48))


@dataclass(frozen=True)
class Decoded:
    """What prefixes decode to. Shapes: B pictures, H W canvas; pixels 0..255."""

    image: Tensor
    """The pictures themselves, f32[B, 3, H, W]."""
    fidelity: Tensor
    """Their decodes, neither rounded nor clipped, f32[B, 3, H, W]."""
    length: Tensor
    """Tokens kept, f32[B]."""
    expected_mse: Tensor

    def crop(self, size: Size, generator: torch.Generator) -> Decoded:
        """One random place of all pictures."""
        height, width = self.image.shape[2:]
        top = _draw(height - size.height_px, generator)
        left = _draw(width - size.width_px, generator)
        rows, columns = slice(top, top + size.height_px), slice(left, left + size.width_px)
        return Decoded(
            self.image[:, :, rows, columns],
            self.fidelity[:, :, rows, columns],
            self.length * (size.area_px / (height * width)),
            self.expected_mse,
        )


class FrozenTokenizer:
    """The averaged weights of a run's checkpoint, without gradients."""

    def __init__(self, checkpoint: Path, device: torch.device) -> None:
        state = load_checkpoint(checkpoint)
        config = config_from_dict(state["config"])
        if isinstance(config.model, RegisterConfig):
            raise ValueError(f"{checkpoint} has the register layout, and a refiner needs the spectral one")
        self.name, self.steps = config.name, int(state["step"])
        self.contexts = contexts_from_dict(state["contexts"])
        self.model = AdaptiveTokenizer(config.model, tables_from_dict(state["tables"]))
        self.model.load_state_dict(state["average"])
        self.model.to(device).eval().requires_grad_(False)
        if device.type == "cpu":
            self.model.to(memory_format=torch.channels_last)
        self.device, self.layout = device, SpectralLayout(self.model.tables)

    def max_tokens(self, canvas: Size) -> int:
        """Tokens of a whole stream."""
        return self.layout.max_tokens(canvas)

    @torch.no_grad()
    def decode(self, image: Tensor, length_B: Tensor) -> Decoded:
        """f32[B, 3, H, W] in 0..255 encoded in the fixed coding, cut to lengths i64[B] and decoded."""
        canvas = Size(image.shape[3], image.shape[2])
        length_B = length_B.to(self.device)
        basis, quantizer = self.model.basis(canvas, self.device), self.model.quantizer(canvas, self.device)
        with autocast(self.device):
            coefficients, _, _ = self.model.analysis(image, *basis)
            chosen = [self.layout.choose_class(c, canvas) for c in coefficients.float().cpu().numpy()]
            classes = torch.tensor(chosen, device=self.device)
            means = quantizer(coefficients.flatten(1), classes, length_B).unflatten(1, coefficients.shape[1:])
            expected_mse = quantizer.expected_mse(classes, length_B)
            fidelity = self.model.synthesis(means, length_B.float(), expected_mse, *basis)
        return Decoded(image, fidelity.float(), length_B.float(), expected_mse)

    @torch.no_grad()
    def decode_coded(self, batch: CodedBatch) -> Decoded:
        """Prefixes of the range coding decoded, mirrored where the batch says so."""
        length_B, canvas = batch.length.to(self.device).float(), Size(*batch.image.shape[:1:-1])
        linear = self.model.synthesis.linear(batch.means, *self.model.basis(canvas, self.device))
        mirrored = batch.flip[:, None, None, None]
        linear, image = (torch.where(mirrored, x.flip(3), x) for x in (linear, batch.image))
        with autocast(self.device):
            fidelity = self.model.synthesis.refine(linear, length_B, batch.expected_mse)
        return Decoded(image, fidelity.float(), length_B, batch.expected_mse)

    @torch.no_grad()
    def probe(self) -> np.ndarray:
        """What `PROBE_TOKENS` decode to, uint8[H, W, 3]: by it a model is known again, in any runtime."""
        means = torch.from_numpy(self.layout.decode(PROBE_TOKENS, PROBE_CANVAS))[None].to(self.device)
        length = torch.full((1,), float(len(PROBE_TOKENS)), device=self.device)
        expected = torch.full_like(length, float(self.layout.expected_mse(PROBE_TOKENS, PROBE_CANVAS)))
        basis = self.model.basis(PROBE_CANVAS, self.device)
        image = self.model.synthesis(means, length, expected, *basis)
        return from_model_output(image.cpu().numpy())[0]


def _draw(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit + 1, (1,), generator=generator))
