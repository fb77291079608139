"""RegisterTokenizer: pixels -> learned queries -> FSQ ids -> pixels, as one module.

    analysis   patches + position → transformer with registers → FSQ   registers see patches and registers
                                                                       before them; patches see patches
    (bytes)    ids of the first registers (tokenizer/registers.py)
    synthesis  mask tokens + position look at kept registers, and at a mask token for each of the others

After FlexTok (Bachmann et al., ICML 2025, arXiv 2502.13967) and Semanticist (Wen et al., ICCV 2025, arXiv
2503.08685) with FSQ (Mentzer et al., ICLR 2024, arXiv 2309.15505); pixels in place of their latents, and one
pass for the mean in place of a diffusion decoder. Before training it shows the mean colour.
Shapes: B batch, H W canvas, h w grid of patches, P = h w, N registers, d FSQ dimensions, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ

from tokenizer.canvas import Size
from tokenizer.model.adaptive_tokenizer import PIXEL_SCALE
from tokenizer.model.nested_dropout import keep_mask
from tokenizer.model.register_config import RegisterConfig
from tokenizer.model.transformer import DecoderBlock, EncoderBlock, init_weights, prefix_causal
from tokenizer.registers import patch_positions


class RegisterTokenizer(nn.Module):
    """The trainable tokenizer; `analysis` and `synthesis` are what export turns into graphs."""

    def __init__(self, config: RegisterConfig, mean_rgb: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        mean = torch.full((3,), 128.0) if mean_rgb is None else mean_rgb
        self.analysis = RegisterAnalysis(config, mean)
        self.synthesis = RegisterSynthesis(config, mean)

    def positions(self, canvas: Size, device: torch.device) -> Tensor:
        """Position code of the patches of a canvas, f32[h, w, D]."""
        return torch.from_numpy(patch_positions(canvas, self.config.patch_px, self.config.width)).to(device)

    def kept_registers(self, length_B: Tensor) -> Tensor:
        """Whole registers that a prefix of so many tokens holds, i64[B]."""
        return torch.div(length_B.long(), self.config.bytes_per_register, rounding_mode="floor")


class RegisterAnalysis(nn.Module):
    """Pixels -> codes: the exported encoder."""

    mean: Tensor

    def __init__(self, config: RegisterConfig, mean_rgb: Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", mean_rgb[None, :, None, None].clone())
        self.patches = nn.Linear(3 * config.patch_px**2, config.width)
        # Small, so that what a query finds in the picture outweighs what it asked.
        self.registers = nn.Parameter(0.02 * torch.randn(config.num_registers, config.width))
        self.blocks = nn.ModuleList(EncoderBlock(config.width) for _ in range(config.encoder_depth))
        self.norm = nn.LayerNorm(config.width)
        self.to_code = nn.Linear(config.width, len(config.levels))
        self.code_mean = nn.Parameter(torch.zeros(config.num_registers, len(config.levels)))
        self.code_scale = nn.Parameter(torch.ones(config.num_registers, len(config.levels)))
        # FSQ has no weights; its own projections would run under autocast.
        self.quantizer = FSQ(list(config.levels))
        init_weights(self, config.encoder_depth)

    def forward(self, image_B3HW: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels 0..255 and positions f32[h, w, D] -> codes f32[B, N, d] in -1..1, ids i32[B, N]."""
        latent = self.latents(image_B3HW, positions)
        with torch.autocast(latent.device.type, enabled=False):
            codes, ids = self.quantizer(latent)
        return codes, ids

    def latents(self, image_B3HW: Tensor, positions: Tensor) -> Tensor:
        """What is quantized, f32[B, N, d]; the last step in fp32, whatever autocast does before it."""
        patches = self.patches(patchify((image_B3HW - self.mean) / PIXEL_SCALE, self.config.patch_px))
        patches = patches + positions.flatten(0, 1)
        registers = self.registers.expand(patches.shape[0], -1, -1)
        tokens = torch.cat((patches, registers.to(patches.dtype)), dim=1)
        zeros = torch.zeros_like(positions[:, :, 0], dtype=torch.int64).flatten()
        allowed = prefix_causal(zeros, self.config.num_registers)
        for block in self.blocks:
            tokens = block(tokens, allowed)
        with torch.autocast(tokens.device.type, enabled=False):
            last = tokens[:, -self.config.num_registers :].float()
            latent: Tensor = (self.to_code(self.norm(last)) - self.code_mean) * self.code_scale
        return latent

    @torch.no_grad()
    def spread_codes(self, image_B3HW: Tensor, positions: Tensor) -> None:
        """Move and scale every code so that these pictures use all levels (as ActNorm starts, Kingma and
        Dhariwal 2018): from plain weights, pictures differ by a tenth of a level, and nothing gets through.
        """
        latent = self.latents(image_B3HW, positions)
        self.code_mean.add_(latent.mean(0) / self.code_scale)
        self.code_scale.div_(latent.std(0).clamp_min(1e-3))


class RegisterSynthesis(nn.Module):
    """Codes or ids of the first registers -> pixels: the exported decoder."""

    mean: Tensor

    def __init__(self, config: RegisterConfig, mean_rgb: Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", mean_rgb[None, :, None, None].clone())
        self.quantizer = FSQ(list(config.levels))
        self.from_code = nn.Linear(len(config.levels), config.width)
        self.places = nn.Parameter(0.5 * torch.randn(config.num_registers, config.width))
        self.absent = nn.Parameter(torch.randn(config.width))
        self.mask = nn.Parameter(torch.randn(config.width))
        self.norm_registers = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(DecoderBlock(config.width) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(config.width)
        self.pixels = nn.Linear(config.width, 3 * config.patch_px**2)
        init_weights(self, config.decoder_depth)
        nn.init.zeros_(self.pixels.weight)

    def forward(self, ids_BN: Tensor, kept_B: Tensor, positions: Tensor) -> Tensor:
        """Ids i64[B, N], how many of them count i64[B] -> pixels 0..255 [B, 3, H, W]."""
        codes: Tensor = self.quantizer.indices_to_codes(ids_BN)
        return self.decode(codes, kept_B, positions)

    def decode(self, codes_BNd: Tensor, kept_B: Tensor, positions: Tensor) -> Tensor:
        """As `forward`, from codes f32[B, N, d] in -1..1: what training has gradients through."""
        keep = keep_mask(kept_B, self.config.num_registers)[:, :, None]
        registers = torch.where(keep, self.from_code(codes_BNd), self.absent) + self.places
        registers = self.norm_registers(registers)
        patches = (self.mask + positions.flatten(0, 1)).expand(codes_BNd.shape[0], -1, -1)
        for block in self.blocks:
            patches = block(patches, registers)
        pixels = self.pixels(self.norm(patches)).float()
        return unpatchify(pixels, positions, self.config.patch_px) * PIXEL_SCALE + self.mean


def patchify(image_BCHW: Tensor, patch_px: int) -> Tensor:
    """[B, C, H, W] -> [B, h w, C p p], row by row."""
    return nn.functional.pixel_unshuffle(image_BCHW, patch_px).flatten(2).transpose(1, 2)


def unpatchify(patches_BPC: Tensor, positions: Tensor, patch_px: int) -> Tensor:
    """Inverse of `patchify`, [B, h w, C p p] -> [B, C, H, W]; h and w are those of `positions`."""
    grid = patches_BPC.transpose(1, 2).reshape(-1, patches_BPC.shape[2], *positions.shape[:2])
    return nn.functional.pixel_shuffle(grid, patch_px)
