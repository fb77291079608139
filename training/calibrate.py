"""A shipped model on a user's own pictures: new margins, and if there are enough pictures a new halting head.

Tokens and pixels stay as they are, and so does the fingerprint: streams can be exchanged with the original.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from tokenizer.artifact import GRAPHS, ModelArtifact
from tokenizer.coding import Coding
from tokenizer.onnx_session import OnnxSession
from tokenizer.stream_codec import StreamCodec
from training.calibration import Predictions
from training.config import DataConfig
from training.curves import Codec, Curves, measure_curves, places, rate_distortion, true_lengths
from training.data import load_pictures
from training.export import export_head, write_artifact
from training.halting import CANDIDATE_LENGTHS, calibrated, fit_halting
from training.run_facts import run_facts

# Of the pictures that a refit is given, this share is kept for the margins.
CALIBRATION_SHARE = 0.25


def calibrate(
    model: str,
    sources: tuple[str, ...],
    out: Path,
    *,
    refit: bool = False,
    limit: int | None = None,
    held_out: bool = False,
    codings: tuple[Coding, ...] = tuple(Coding),
) -> dict[str, float]:
    """Write a copy of the artifact that is calibrated on these pictures; return facts about the fit.

    Margins need about 100 pictures, a new head (`refit`) about 1,000. With `held_out`, the pictures are the
    calibration split of the model's own data, as `export` takes it. Other codings keep their margins.
    Raises ArtifactError, ValueError.
    """
    artifact = ModelArtifact.load(model)
    encoder, decoder, head = (OnnxSession(artifact.graphs[name]) for name in GRAPHS)
    codec = Codec(StreamCodec(artifact.tables, artifact.contexts), encoder, decoder)
    canvas, own_data = run_facts(artifact.manifest, sources)
    measured: dict[str, Any] = {}
    files = tuple(artifact.manifest["files"])  # with the refiner, if there is one
    contents = {name: (artifact.path / name).read_bytes() for name in files}
    if refit:
        data = DataConfig(sources=sources, held_out_share=CALIBRATION_SHARE, limit=limit)
        fit = load_pictures(data, "train") + load_pictures(data, "validation")
        halting = fit_halting(codec, fit, load_pictures(data, "calibration"), canvas)
        scores, facts, lengths = halting.margin_scores, halting.facts, CANDIDATE_LENGTHS
        contents["halting.onnx"] = export_head(halting.head)
    else:
        lengths = artifact.config.candidate_lengths
        mine = DataConfig(sources=sources, held_out_share=0.0, limit=limit)
        pictures = (
            load_pictures(dataclasses.replace(own_data, limit=limit), "calibration")
            if held_out
            else load_pictures(mine, "train")
        )
        curves = {c: measure_curves(codec, pictures, canvas, true_lengths(lengths), c) for c in codings}
        scores, errors_db = calibrated(
            lambda measured: _predicted(head, measured, lengths), curves, pictures.sources
        )
        scores = {**artifact.config.margin_scores, **scores}
        facts = {"calibrated_on": len(pictures), **errors_db}
        if held_out:  # others say little of the model
            measured = {str(coding): _rate_distortion(lengths, one) for coding, one in curves.items()}
    config = dataclasses.replace(artifact.config, candidate_lengths=lengths, margin_scores=scores)
    contents["config.json"] = config.to_json().encode()
    manifest = {
        **artifact.manifest,
        "halting": {**artifact.manifest["halting"], **facts},
        "rate_distortion": {**artifact.manifest["rate_distortion"], **measured},
    }
    write_artifact(out, contents, manifest, files)
    return facts


def _rate_distortion(lengths: tuple[int, ...], curves: Curves) -> dict[str, Any]:
    return rate_distortion(lengths, curves.at(places(lengths, true_lengths(lengths))))


def _predicted(head: OnnxSession, curves: Curves, lengths: tuple[int, ...]) -> Predictions:
    """What a shipped head says of curves measured at `true_lengths(lengths)`, beside the truth."""
    true = true_lengths(lengths)
    out = head.run(
        linear_psnr_db=curves.at(places(lengths, true)).linear_psnr_db.numpy(),
        features=curves.features.numpy(),
        blocks=curves.blocks.numpy(),
    )
    columns = (out["psnr_db"], out["spread_db"], curves.true_psnr_db.numpy())
    return Predictions(lengths, *(column.astype(np.float64) for column in columns), true)
