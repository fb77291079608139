"""From a register checkpoint to the folder that ships: graphs, halting head, margins, parity, model facts.

The head is that of the spectral layout. In place of a linear curve, which is exact for each picture, it gets
the mean of all measured curves, and learns by how much a picture is better or worse.
Shapes: P pictures, L candidate lengths.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from tokenizer.artifact import REGISTER_FILES, tables_to_bytes
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.config import TokenizerConfig
from tokenizer.halting_features import block_features
from tokenizer.model import DistortionHead
from tokenizer.model.layers import parameter_count
from tokenizer.model.register_tokenizer import RegisterConfig, RegisterTokenizer
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import from_model_output, to_model_input
from tokenizer.quality import psnr_db
from tokenizer.register_tokens import register_features
from tokenizer.registers import RegisterTables, patch_positions
from training.calibration import Predictions
from training.checkpoint import config_to_dict
from training.config import TrainConfig
from training.curves import BATCH_SIZE, Curves
from training.data import PictureSet, load_pictures
from training.export import OPSET, export_head, runtime_versions, write_artifact
from training.halting import CANDIDATE_LENGTHS, SYNTHETIC_SHARE, calibrated, fit_head, predictions
from training.register_export import (
    check_register_parity,
    export_register_graphs,
    parity_facts,
    register_names,
)
from training.release import PARITY_PICTURES, data_facts
from training.synthetic import synthetic_pictures


def release_registers(
    state: dict[str, Any],
    config: TrainConfig,
    sources: tuple[str, ...],
    out: Path,
    name: str,
    version: str,
    head_pictures: int,
) -> str:
    """Everything between a checkpoint and its artifact; returns the digest. Raises ParityError."""
    sizes, canvas = config.model, config.canvases[0]
    assert isinstance(sizes, RegisterConfig)
    model = RegisterTokenizer(sizes).eval()
    model.load_state_dict(state["average"])
    pictures = _Pictures(config, sources, head_pictures)
    parity_pictures = next(pictures.validation.centre_batches(PARITY_PICTURES, canvas))
    graphs = export_register_graphs(model, parity_pictures)
    parity = check_register_parity(model, graphs, parity_pictures)
    measure = _Measure(sizes, graphs, canvas)
    head, anchor, seen = _fit(measure, pictures.fit(canvas))
    unseen = measure.curves(pictures.calibration, anchor)
    scores, errors_db = calibrated(
        lambda curves: _predictions(head, curves, measure),
        {Coding.FIXED: unseen},
        pictures.calibration.sources,
    )
    tokenizer_config = TokenizerConfig(name, version, "register", measure.lengths, scores)
    contents = {
        "config.json": tokenizer_config.to_json().encode(),
        "registers.npz": tables_to_bytes(_tables(sizes, canvas, anchor)),
        "halting.onnx": export_head(head),
        **graphs,
    }
    names = register_names(tokenizer_config, model)
    manifest = {
        **names,
        "versions": {"torch": torch.__version__, "opset": str(OPSET), **runtime_versions()},
        "parity": parity_facts(parity),
        "recipe": {**config_to_dict(config), "data": data_facts(config.data)},
        "steps": state["step"],
        "parameters": {
            "decoder": parameter_count(model.synthesis),
            "encoder": parameter_count(model.analysis),
            "halting": parameter_count(head),
        },
        "rate_distortion": {
            "fixed": {
                "pictures": len(unseen),
                "tokens": list(measure.lengths),
                "mean_psnr_db": [round(v, 3) for v in unseen.true_psnr_db.mean(0).tolist()],
            }
        },
        "halting": {"fitted_on": seen, "calibrated_on": len(unseen), **errors_db},
    }
    write_artifact(out, contents, manifest, REGISTER_FILES)
    return names["digest"]


class _Pictures:
    """The head is fitted on validation and some training pictures, margins are taken on what nothing saw."""

    def __init__(self, config: TrainConfig, sources: tuple[str, ...], head_pictures: int) -> None:
        data = replace(config.data, sources=sources, kinds=(), limit=None)
        self.validation = load_pictures(data, "validation")
        self.calibration = load_pictures(data, "calibration")
        self._seen = load_pictures(replace(data, limit=head_pictures), "train")

    def fit(self, canvas: Size) -> PictureSet:
        photographs = self.validation + self._seen
        return photographs + synthetic_pictures(ceil(SYNTHETIC_SHARE * len(photographs)), canvas)


class _Measure:
    """What the decoder really does with prefixes, through the runtime that ships."""

    def __init__(self, config: RegisterConfig, graphs: dict[str, bytes], canvas: Size) -> None:
        self.encoder, self.decoder = (OnnxSession(graphs[f"{name}.onnx"]) for name in ("encoder", "decoder"))
        self.positions = patch_positions(canvas, config.patch_px, config.width)
        self.config, self.canvas = config, canvas
        self.lengths = candidate_lengths(config.max_tokens)

    def true_psnr_db(self, pixels: np.ndarray) -> np.ndarray:
        """f32[L] of one picture u8[H, W, 3]."""
        ids = self.encoder.run(image=to_model_input([pixels]), positions=self.positions)["ids"]
        kept = np.asarray(self.lengths, np.int64) // self.config.bytes_per_register
        repeated = np.repeat(ids.astype(np.int64), len(kept), axis=0)
        images = self.decoder.run(ids=repeated, kept=kept, positions=self.positions)["image"]
        return np.asarray([min(psnr_db(pixels, one), 100.0) for one in from_model_output(images)], np.float32)

    def curves(self, pictures: PictureSet, anchor: np.ndarray | None) -> Curves:
        """Curves of pictures; without an anchor, their own mean is it."""
        batches = track(
            pictures.centre_batches(BATCH_SIZE, self.canvas),
            f"curves of {len(pictures)} pictures",
            total=ceil(len(pictures) / BATCH_SIZE),
        )
        rows = [
            (register_features(pixels), block_features(pixels), self.true_psnr_db(pixels))
            for batch in batches
            for pixels in batch
        ]
        features, blocks, true_db = (np.stack(column) for column in zip(*rows, strict=True))
        anchor = np.maximum.accumulate(true_db.mean(0)) if anchor is None else anchor
        anchors = np.broadcast_to(anchor, true_db.shape).copy()
        return Curves(*map(torch.from_numpy, (anchors, features, blocks, true_db)))


def candidate_lengths(max_tokens: int) -> tuple[int, ...]:
    """The standard lengths that a stream has, and the whole stream."""
    return (*(n for n in CANDIDATE_LENGTHS if n < max_tokens), max_tokens)


def _fit(measure: _Measure, pictures: PictureSet) -> tuple[DistortionHead, np.ndarray, int]:
    """(head, anchor f32[L], how many pictures they were fitted on)."""
    curves = measure.curves(pictures, None)
    return fit_head(curves), curves.linear_psnr_db[0].numpy(), len(curves)


def _predictions(head: DistortionHead, curves: Curves, measure: _Measure) -> Predictions:
    return predictions(head, curves, measure.lengths)


def _tables(config: RegisterConfig, canvas: Size, anchor: np.ndarray) -> RegisterTables:
    def number(value: int) -> np.ndarray:
        return np.asarray([value], np.int32)

    return RegisterTables(
        levels=np.asarray(config.levels, np.int32),
        num_registers=number(config.num_registers),
        patch_px=number(config.patch_px),
        width=number(config.width),
        canvas_area_px=number(canvas.area_px),
        anchor_psnr_db=anchor.astype(np.float32),
    )
