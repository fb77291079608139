"""A shipped model on a user's own pictures: new margins, and if there are enough pictures a new halting head.

Tokens and pixels stay as they are, and so does the fingerprint: streams can be exchanged with the original.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tokenizer.artifact import GRAPHS, ModelArtifact
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.onnx_session import OnnxSession
from tokenizer.stream_codec import StreamCodec
from training.calibration import Predictions
from training.config import DataConfig
from training.curves import Codec, Curves, measure_curves, places, with_means
from training.data import load_pictures
from training.export import export_head, write_artifact
from training.halting import CANDIDATE_LENGTHS, calibrated, fit_halting

# Of the pictures that a refit is given, this share is kept for the margins.
CALIBRATION_SHARE = 0.25


def calibrate(
    model: str, sources: tuple[str, ...], out: Path, *, refit: bool = False, limit: int | None = None
) -> dict[str, float]:
    """Write a copy of the artifact that is calibrated on these pictures; return facts about the fit.

    Margins need about 100 pictures, a new head (`refit`) about 1,000. Raises ArtifactError, ValueError.
    """
    artifact = ModelArtifact.load(model)
    encoder, decoder, head = (OnnxSession(artifact.graphs[name]) for name in GRAPHS)
    codec = Codec(StreamCodec(artifact.tables, artifact.contexts), encoder, decoder)
    canvas = Size(**artifact.manifest["recipe"]["canvases"][0])  # the one that the model was trained on
    data = DataConfig(sources=sources, held_out_share=CALIBRATION_SHARE, limit=limit)
    files = tuple(artifact.manifest["files"])  # with the refiner, if there is one
    contents = {name: (artifact.path / name).read_bytes() for name in files}
    if refit:
        fit = load_pictures(data, "train") + load_pictures(data, "validation")
        halting = fit_halting(codec, fit, load_pictures(data, "calibration"), canvas)
        scores, facts, lengths = halting.margin_scores, halting.facts, CANDIDATE_LENGTHS
        contents["halting.onnx"] = export_head(halting.head)
    else:
        lengths = artifact.config.candidate_lengths
        pictures = load_pictures(dataclasses.replace(data, held_out_share=0.0), "train")
        true = with_means(lengths)
        curves = {coding: measure_curves(codec, pictures, canvas, true, coding) for coding in Coding}
        scores, errors_db = calibrated(
            lambda measured: _predicted(head, measured, lengths), curves, pictures.sources
        )
        facts = {"calibrated_on": len(pictures), **errors_db}
    config = dataclasses.replace(artifact.config, candidate_lengths=lengths, margin_scores=scores)
    contents["config.json"] = config.to_json().encode()
    write_artifact(
        out, contents, {**artifact.manifest, "halting": {**artifact.manifest["halting"], **facts}}, files
    )
    return facts


def _predicted(head: OnnxSession, curves: Curves, lengths: tuple[int, ...]) -> Predictions:
    """What a shipped head says of curves measured at `with_means(lengths)`, beside the truth."""
    true = with_means(lengths)
    out = head.run(
        linear_psnr_db=curves.at(places(lengths, true)).linear_psnr_db.numpy(),
        features=curves.features.numpy(),
        blocks=curves.blocks.numpy(),
    )
    columns = (out["psnr_db"], out["spread_db"], curves.true_psnr_db.numpy())
    return Predictions(lengths, *(column.astype(np.float64) for column in columns), true)
