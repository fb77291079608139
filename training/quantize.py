"""fp32 artifact -> its int8 sibling. Refuses to write where the pictures lose too much.

Tokens are the same: the encoder, the tables and the halting head are taken over as they are. Only the
decoder's convolutions change, so only pictures differ, and by how much is measured through the runtime that
users run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from rich.progress import track

from tokenizer import ImageTokenizer
from tokenizer.artifact import ModelArtifact, sha256, tables_to_bytes
from tokenizer.canvas import Size
from tokenizer.halting import head_lengths
from tokenizer.quality import psnr_db
from training.curves import Codec
from training.data import PictureSet, load_pictures
from training.export import runtime_versions, write_artifact
from training.int8_decoder import int8_decoder
from training.int8_graph import RANGE_SHARE, convolutions
from training.run_facts import run_facts

CALIBRATION_PICTURES = 32
# A step of the picture's 8 bits on average is 48 dB; the worst of 40 varied photographs had 43.
MIN_PARITY_PSNR_DB = 38.0
# The same picture gives infinite PSNR; means need a number.
MAX_PSNR_DB = 100.0
# Facts about the model that hold for both precisions.
INHERITED_FACTS = ("recipe", "steps", "parameters", "halting")


class QuantizationError(Exception):
    """The int8 model is not good enough, or cannot be made; nothing was written."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both precisions on the same pictures and prefixes, f64[N pictures, L lengths] each."""

    lengths: tuple[int, ...]
    source_psnr_db: np.ndarray
    """fp32 decode against the original."""
    psnr_db: np.ndarray
    """int8 decode against the original."""
    parity_psnr_db: np.ndarray
    """int8 decode against the fp32 decode."""

    @property
    def loss_db(self) -> np.ndarray:
        """Mean PSNR lost at each length, f64[L]."""
        loss: np.ndarray = (self.source_psnr_db - self.psnr_db).mean(0)
        return loss


def quantize_artifact(
    name_or_path: str | Path,
    sources: tuple[str, ...],
    out: Path,
    name: str | None = None,
    pictures: int = 100,
    max_loss_db: float = 0.03,
) -> str:
    """Write the int8 sibling of an artifact; return its digest. Raises QuantizationError, ArtifactError.

    Ranges come from the training split; quality is measured on the calibration split, which nothing has seen.
    """
    artifact = ModelArtifact.load(name_or_path)
    if artifact.config.precision != "fp32":
        raise QuantizationError(f"{artifact.config.name} is {artifact.config.precision}; give an fp32 model")
    source = ImageTokenizer(artifact)
    canvas, data = run_facts(artifact.manifest, sources)
    seen = load_pictures(replace(data, limit=CALIBRATION_PICTURES), "train")
    codec = Codec(source.codec, source.encoder, source.decoder)
    sibling = int8_sibling(artifact, int8_decoder(artifact.graphs["decoder.onnx"], codec, seen, canvas), name)
    unseen = load_pictures(replace(data, limit=pictures), "calibration")
    comparison = compare(source, ImageTokenizer(sibling), unseen, canvas)
    check(comparison, max_loss_db)
    contents = {
        "config.json": sibling.config.to_json().encode(),
        "tables.npz": tables_to_bytes(sibling.tables),
        "contexts.npz": tables_to_bytes(sibling.contexts),
        **sibling.graphs,
    }
    facts = _facts(artifact, comparison, len(seen), max_loss_db)
    names = {"digest": sibling.digest, "fingerprint": artifact.fingerprint}
    write_artifact(out, contents, {**names, **facts})
    return sibling.digest


def int8_sibling(artifact: ModelArtifact, decoder: bytes, name: str | None = None) -> ModelArtifact:
    """The artifact with another decoder, under its own digest and name."""
    config = replace(artifact.config, name=name or f"{artifact.config.name}-int8", precision="int8")
    weights = [
        part
        for tensor in sorted(onnx.load_from_string(decoder).graph.initializer, key=lambda t: t.name)
        for part in (tensor.name.encode(), numpy_helper.to_array(tensor).tobytes())
    ]
    digest = sha256(b"".join([config.to_json().encode(), artifact.digest.encode(), *weights]))
    return replace(
        artifact,
        config=config,
        manifest={**artifact.manifest, "digest": digest},
        graphs={**artifact.graphs, "decoder.onnx": decoder},
    )


def compare(
    source: ImageTokenizer, sibling: ImageTokenizer, pictures: PictureSet, canvas: Size
) -> Comparison:
    """Decode every picture at the candidate lengths with both. Raises QuantizationError on other tokens."""
    lengths = tuple(
        min(n, source.max_tokens(canvas))
        for n in head_lengths(source.artifact.config.candidate_lengths, canvas)
    )
    rows = []
    batches = pictures.centre_batches(1, canvas)
    for (picture,) in track(batches, f"quality of {len(pictures)} pictures", total=len(pictures)):
        (ours,) = source.encode([picture], canvas_area_px=canvas.area_px)
        (theirs,) = sibling.encode([picture], canvas_area_px=canvas.area_px)
        if ours.tokens != theirs.tokens:
            raise QuantizationError("the int8 model gives other tokens than its source")
        before = source.decode([ours.prefix(n) for n in lengths])
        after = sibling.decode([theirs.prefix(n) for n in lengths])
        rows.append(
            [
                [min(psnr_db(a, b), MAX_PSNR_DB) for a, b in pairs]
                for pairs in (
                    [(picture, image) for image in before],
                    [(picture, image) for image in after],
                    list(zip(before, after, strict=True)),
                )
            ]
        )
    return Comparison(lengths, *np.asarray(rows).transpose(1, 0, 2))


def check(comparison: Comparison, max_loss_db: float) -> None:
    """Raise QuantizationError if mean PSNR falls too far at any length, or one picture comes out another."""
    worst = int(comparison.loss_db.argmax())
    if comparison.loss_db[worst] > max_loss_db:
        raise QuantizationError(
            f"int8 loses {comparison.loss_db[worst]:.4f} dB at {comparison.lengths[worst]} tokens, "
            f"allowed are {max_loss_db} dB"
        )
    if comparison.parity_psnr_db.min() < MIN_PARITY_PSNR_DB:
        raise QuantizationError(
            f"a picture has {comparison.parity_psnr_db.min():.1f} dB between int8 and fp32, "
            f"at least {MIN_PARITY_PSNR_DB} dB are asked for"
        )


def _facts(artifact: ModelArtifact, found: Comparison, seen: int, max_loss_db: float) -> dict[str, Any]:
    """What the manifest says besides digest and files."""
    return {
        **{key: artifact.manifest[key] for key in INHERITED_FACTS if key in artifact.manifest},
        "versions": runtime_versions(),
        "parity": {
            "min_psnr_db": round(float(found.parity_psnr_db.min()), 2),
            "mean_psnr_db": round(float(found.parity_psnr_db.mean()), 2),
        },
        "quantization": {
            "source": {"name": artifact.config.name, "digest": artifact.digest},
            "convolutions": len(convolutions(onnx.load_from_string(artifact.graphs["decoder.onnx"]))),
            "calibrated_on": seen,
            "range_share": RANGE_SHARE,
            "max_loss_db": max_loss_db,
        },
        "rate_distortion": {
            "pictures": len(found.psnr_db),
            "tokens": list(found.lengths),
            "mean_psnr_db": _rounded(found.psnr_db.mean(0)),
            "source_mean_psnr_db": _rounded(found.source_psnr_db.mean(0)),
            "loss_db": _rounded(found.loss_db),
        },
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
