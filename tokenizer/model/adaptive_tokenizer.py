"""AdaptiveTokenizer: pixels -> coefficients -> (bits) -> coefficients -> pixels, as one module.

    analysis   x → (x + f(x)) → colour KLT → DCT → coefficients        f: zero-initialised U-Net
    quantizer  coefficients → conditional means of the first `length` tokens
    synthesis  conditional means → inverse DCT → y → y + g(y, length)  g: zero-initialised U-Net

Before training it is exactly the linear codec of its tables; everything learned is on top.
Shapes: B batch, H W canvas, bh bw frequency block, n = 3 * bh * bw.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokenizer.canvas import DEFAULT_AREA_PX, Size
from tokenizer.model.layers import ResidualUNet, log2_features, trust
from tokenizer.model.quantizer import EmbeddedQuantizer
from tokenizer.spectral import SpectralTables, dct_basis

# Pixels 0..255 are worked on as (p - mean) / 128: about -1..1.
PIXEL_SCALE = 128.0


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the two networks; empty encoder widths mean no network before the transform."""

    decoder_widths: tuple[int, ...] = (64, 128, 256)
    decoder_depths: tuple[int, ...] = (1, 2, 3)
    encoder_widths: tuple[int, ...] = ()
    encoder_depths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for widths, depths in (
            (self.decoder_widths, self.decoder_depths),
            (self.encoder_widths, self.encoder_depths),
        ):
            if len(widths) != len(depths) or any(w % 16 for w in widths):
                raise ValueError(f"one depth per width, widths multiples of 16, got {widths} and {depths}")
        if not self.decoder_widths:
            raise ValueError("a decoder needs at least one level")


class AdaptiveTokenizer(nn.Module):
    """The trainable tokenizer; `Analysis` and `Synthesis` are what export turns into graphs."""

    def __init__(self, config: ModelConfig, tables: SpectralTables) -> None:
        super().__init__()
        self.config, self.tables = config, tables
        self.analysis = Analysis(config, tables)
        self.synthesis = Synthesis(config, tables)
        self._quantizers: dict[Size, EmbeddedQuantizer] = {}

    def quantizer(self, canvas: Size, device: torch.device) -> EmbeddedQuantizer:
        """The embedded quantizer of a canvas; built once per canvas, it has no trained numbers."""
        if canvas not in self._quantizers:
            self._quantizers[canvas] = EmbeddedQuantizer(self.tables, canvas).to(device)
        return self._quantizers[canvas]

    def basis(self, canvas: Size, device: torch.device) -> tuple[Tensor, Tensor]:
        """(vertical [bh, H], horizontal [bw, W]) rows of the DCT."""
        bh, bw = self.quantizer(canvas, device).block
        return (
            torch.from_numpy(dct_basis(canvas.height_px, bh)).to(device),
            torch.from_numpy(dct_basis(canvas.width_px, bw)).to(device),
        )


class Analysis(nn.Module):
    """Pixels -> coefficients: the exported encoder."""

    mean: Tensor
    colour: Tensor

    def __init__(self, config: ModelConfig, tables: SpectralTables) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(tables.mean_rgb)[None, :, None, None])
        self.register_buffer("colour", torch.from_numpy(tables.colour))
        self.network = (
            ResidualUNet(config.encoder_widths, config.encoder_depths, num_conditions=1)
            if config.encoder_widths
            else None
        )

    def forward(
        self, image_B3HW: Tensor, vertical: Tensor, horizontal: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels 0..255 [B, 3, H, W] -> coefficients to send, those of the picture, energy.

        Both [B, 3, bh, bw] and divided by sqrt(H W); energy [B] is the mean over pixels of the squared
        distance from the mean colour, summed over colours.
        """
        centred = image_B3HW - self.mean
        energy = centred.square().mean((2, 3)).sum(1)
        reference = self.transform(centred, vertical, horizontal)
        if self.network is None:
            return reference, reference, energy
        residual = self.network(centred / PIXEL_SCALE, torch.ones_like(energy)[:, None])
        moved = self.transform(residual.float() * PIXEL_SCALE, vertical, horizontal)
        return reference + moved, reference, energy

    def transform(self, centred_B3HW: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
        """Colour KLT, then the separable DCT; always fp32, so that ids do not depend on autocast."""
        with torch.autocast(centred_B3HW.device.type, enabled=False):
            planes = torch.einsum("bchw,kc->bkhw", centred_B3HW.float(), self.colour)
            area = vertical.shape[1] * horizontal.shape[1]
            coefficients: Tensor = vertical @ planes @ horizontal.transpose(0, 1) / area**0.5
            return coefficients


class Synthesis(nn.Module):
    """Conditional means -> pixels: the exported decoder."""

    mean: Tensor
    colour: Tensor

    def __init__(self, config: ModelConfig, tables: SpectralTables) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(tables.mean_rgb)[None, :, None, None])
        self.register_buffer("colour", torch.from_numpy(tables.colour))
        self.network = ResidualUNet(config.decoder_widths, config.decoder_depths, num_conditions=2)

    def linear(self, means: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
        """Inverse DCT and colour: [B, 3, bh, bw] -> pixels minus the mean colour [B, 3, H, W], fp32."""
        with torch.autocast(means.device.type, enabled=False):
            area = vertical.shape[1] * horizontal.shape[1]
            # Colour first: it commutes with the transform, and here there are fewer numbers than pixels.
            colours = torch.einsum("bkvu,kc->bcvu", means.float(), self.colour)
            pixels: Tensor = vertical.transpose(0, 1) @ colours @ horizontal * area**0.5
            return pixels

    def refine(self, linear: Tensor, length_B: Tensor, expected_mse_B: Tensor) -> Tensor:
        """Linear picture minus mean [B, 3, H, W], tokens kept and expected error f32[B] -> pixels 0..255."""
        area = linear.shape[2] * linear.shape[3]
        equivalent = length_B * (DEFAULT_AREA_PX / area)
        residual: Tensor = self.network(linear / PIXEL_SCALE, log2_features(equivalent, expected_mse_B))
        weight = PIXEL_SCALE * trust(equivalent)[:, None, None, None]
        return linear + residual.float() * weight + self.mean

    def forward(
        self, means: Tensor, length_B: Tensor, expected_mse_B: Tensor, vertical: Tensor, horizontal: Tensor
    ) -> Tensor:
        """Means [B, 3, bh, bw], tokens kept f32[B], expected error f32[B] -> pixels 0..255 [B, 3, H, W]."""
        return self.refine(self.linear(means, vertical, horizontal), length_B, expected_mse_B)
