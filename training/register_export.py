"""A register model as ONNX graphs, and whether both runtimes agree on it.

tanh differs by some 1e-7 between runtimes, so an id may differ only where the value before rounding lies
next to a border. Once exported, the ONNX encoder is what decides ids.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from vector_quantize_pytorch import FSQ

from tokenizer.artifact import sha256
from tokenizer.canvas import MULTIPLE_PX, Size
from tokenizer.config import TokenizerConfig
from tokenizer.model.register_tokenizer import RegisterAnalysis, RegisterTokenizer
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import from_model_output
from tokenizer.quality import psnr_db
from training.export import MIN_PARITY_PSNR_DB, ParityError, _export, _image, weight_bytes

# In steps between levels; float noise between the runtimes was at most 5e-6, measured.
BORDER_MARGIN = 1e-3


@dataclasses.dataclass(frozen=True)
class RegisterParity:
    """How well the two runtimes agree on fixed pictures."""

    equal_id_share: float
    max_border_distance: float
    """Largest distance to a border, in steps between levels, of a register whose id differs."""
    min_psnr_db: float


class EncoderGraph(nn.Module):
    """The encoder as it is exported: ids alone."""

    def __init__(self, analysis: RegisterAnalysis) -> None:
        super().__init__()
        self.analysis = analysis

    def forward(self, image: Tensor, positions: Tensor) -> Tensor:
        """Pixels 0..255 [B, 3, H, W], positions [h, w, D] -> ids i32[B, N]."""
        _, ids = self.analysis(image, positions)
        return ids


def export_register_graphs(model: RegisterTokenizer, pictures: np.ndarray) -> dict[str, bytes]:
    """Encoder and decoder, with dynamic batch and canvas; FSQ is in both, as plain operators."""
    config, image = model.config, _image(pictures)
    positions = model.positions(_canvas(pictures), torch.device("cpu"))
    batch, rows, columns = Dim("batch", min=1), Dim("height16", min=1), Dim("width16", min=1)
    per_side = MULTIPLE_PX // config.patch_px
    grid = {0: per_side * rows, 1: per_side * columns} if per_side > 1 else {0: rows, 1: columns}
    return {
        "encoder.onnx": _export(
            EncoderGraph(model.analysis),
            {"image": image, "positions": positions},
            {"image": {0: batch, 2: MULTIPLE_PX * rows, 3: MULTIPLE_PX * columns}, "positions": grid},
            ["image", "positions"],
            ["ids"],
        ),
        "decoder.onnx": _export(
            model.synthesis,
            {
                "ids_BN": torch.zeros(len(pictures), config.num_registers, dtype=torch.int64),
                "kept_B": torch.ones(len(pictures), dtype=torch.int64),
                "positions": positions,
            },
            {"ids_BN": {0: batch}, "kept_B": {0: batch}, "positions": grid},
            ["ids", "kept", "positions"],
            ["image"],
        ),
    }


@torch.no_grad()
def check_register_parity(
    model: RegisterTokenizer, graphs: dict[str, bytes], pictures: np.ndarray
) -> RegisterParity:
    """Compare both runtimes on pictures, at no, some and all registers; raises ParityError."""
    image, count = _image(pictures), model.config.num_registers
    positions = model.positions(_canvas(pictures), torch.device("cpu"))
    latent = model.analysis.latents(image, positions)
    ours = model.analysis.quantizer(latent)[1].numpy()
    theirs = OnnxSession(graphs["encoder.onnx"]).run(image=image.numpy(), positions=positions.numpy())["ids"]
    distance = border_distance(model.analysis.quantizer, latent).numpy()[ours != theirs]
    decoder, psnr, ids = OnnxSession(graphs["decoder.onnx"]), [], theirs.astype(np.int64)
    for kept in (0, (count + 1) // 2, count):
        keeps = np.full(len(ids), kept, np.int64)
        got = decoder.run(ids=ids, kept=keeps, positions=positions.numpy())["image"]
        wanted = model.synthesis(torch.from_numpy(ids), torch.from_numpy(keeps), positions).numpy()
        pairs = zip(from_model_output(got), from_model_output(wanted), strict=True)
        psnr += [min(psnr_db(a, b), 100.0) for a, b in pairs]
    parity = RegisterParity(float(np.mean(ours == theirs)), float(distance.max(initial=0.0)), min(psnr))
    if parity.max_border_distance > BORDER_MARGIN or parity.min_psnr_db < MIN_PARITY_PSNR_DB:
        raise ParityError(f"ONNX Runtime disagrees with torch: {parity}")
    return parity


def border_distance(quantizer: FSQ, latent_BNd: Tensor) -> Tensor:
    """How far each register is from another id, in steps between levels, f32[B, N].

    `FSQ.bound` of vector_quantize_pytorch without its rounding.
    """
    levels = quantizer._levels
    half = (levels - 1) * (1 + 1e-3) / 2
    offset = torch.where(levels % 2 == 0, 0.5, 0.0)
    bounded = torch.tanh(latent_BNd + torch.atanh(offset / half)) * half - offset
    return ((bounded - bounded.floor()) - 0.5).abs().amin(-1)


def register_names(config: TokenizerConfig, model: RegisterTokenizer) -> dict[str, str]:
    """Digest and fingerprint, by the rules of the spectral layout (training/export.py).

    The fingerprint stands over all that gives ids their meaning: the encoder. The digest stands over config
    and all weights, without the halting head and what belongs to it.
    """
    sizes = repr(dataclasses.astuple(model.config)).encode()
    rules = repr((config.layout, config.format_version, config.preprocess_version)).encode()
    meaning = b"".join([rules, sizes, *weight_bytes(model.analysis)])
    whole = dataclasses.replace(config, margin_scores={}).to_json().encode()
    return {
        "digest": sha256(b"".join([whole, sizes, *weight_bytes(model)])),
        "fingerprint": sha256(meaning)[:8],
    }


def _canvas(pictures: np.ndarray) -> Size:
    return Size(pictures.shape[2], pictures.shape[1])


def parity_facts(parity: RegisterParity) -> dict[str, Any]:
    """For the manifest."""
    return dataclasses.asdict(parity)
