"""Refiner checkpoint -> `refiner.onnx` in an artifact. Refuses another model's refiner, and one that ONNX
Runtime runs differently from torch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim

from tokenizer import Coding, ImageTokenizer, TokenSequence
from tokenizer.artifact import REFINER, ModelArtifact, sha256
from tokenizer.canvas import Size
from tokenizer.detail import DetailFacts
from tokenizer.model import Refiner
from tokenizer.model.layers import parameter_count
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import from_model_output
from tokenizer.quality import psnr_db
from tokenizer.realism import TIME_POWER, Realism, RealismDecoder, WalkFacts, normal_noise
from training.config import DataConfig
from training.data import load_pictures
from training.export import MIN_PARITY_PSNR_DB, ParityError, _export
from training.frozen_tokenizer import PROBE_CANVAS, PROBE_TOKENS
from training.int8_refiner import int8_refiner, walk_parity_db
from training.quantize import MIN_PARITY_PSNR_DB as MIN_SIBLING_PSNR_DB
from training.realism import load_refiner
from training.refiner_sampling import sample

# Ranges from so many pictures, quality on as many others; each is walked from two prefixes.
INT8_PICTURES = 16
# The worst of 32 walks of the shipped refiner had 49 dB.
MIN_INT8_PARITY_PSNR_DB = 42.0
INPUTS = ("state", "fidelity", "time", "length", "expected_mse")


class NoPicturesGiven(ValueError):
    """An int8 refiner was asked for, and no pictures to take its ranges from."""


def attach_refiner(
    checkpoint: Path,
    folder: Path,
    sources: tuple[str, ...] = (),
    time_power: float = TIME_POWER,
    gain: float = 1.0,
    detail: DetailFacts | None = None,
) -> None:
    """Add the refiner of a run to an artifact folder, in place; in the artifact's precision.

    The fingerprint stays: it names the tokens and their fidelity decode, neither of which changes. Int8
    needs pictures for its ranges, and others to be measured on. Raises ParityError, DataRefused and
    NoPicturesGiven, and then changes nothing.
    """
    refiner, state = load_refiner(checkpoint)
    walk = WalkFacts(float(refiner.config.noise_share), time_power, gain, detail)
    artifact = ModelArtifact.load(folder)
    is_int8 = artifact.config.precision == "int8"
    if is_int8 and not sources:  # before the export, which takes its time
        raise NoPicturesGiven(f"{artifact.config.name} is int8: give the data whose ranges the refiner takes")
    check_same_tokenizer(artifact, state["probe"].numpy())
    graph = export_refiner(refiner)
    parity_db = check_refiner_parity(refiner, graph)
    rounding: dict[str, Any] = {}
    if is_int8:
        graph, rounding = to_int8(graph, walk, artifact, state["config"], sources)
    facts = {
        **asdict(walk),
        "parameters": parameter_count(refiner),
        "parity_psnr_db": round(parity_db, 2),
        "recipe": state["config"]["name"],
        "steps": state["step"],
        "tokenizer": state["tokenizer"],
        **rounding,
    }
    (folder / REFINER).write_bytes(graph)
    _write_manifest(folder, with_refiner(artifact.manifest, graph, facts))


def to_int8(
    graph: bytes,
    walk: WalkFacts,
    artifact: ModelArtifact,
    config: dict[str, Any],
    sources: tuple[str, ...],
) -> tuple[bytes, dict[str, Any]]:
    """The step in int8, and what the manifest says of it. Raises as `attach_refiner` does."""
    canvas, tokenizer = Size(**config["canvas"]), ImageTokenizer(artifact)
    data = DataConfig(sources=sources, held_out_share=config["data"]["held_out_share"], limit=INT8_PICTURES)
    small = int8_refiner(graph, walk, tokenizer, load_pictures(data, "train"), canvas)
    unseen = load_pictures(data, "calibration")
    found = walk_parity_db(graph, small, walk, tokenizer, unseen, canvas)
    if min(found) < MIN_INT8_PARITY_PSNR_DB:
        raise ParityError(
            f"a walk in int8 agrees with fp32 to {min(found):.1f} dB only, "
            f"at least {MIN_INT8_PARITY_PSNR_DB} dB are asked for"
        )
    facts = {"int8_min_psnr_db": min(found), "int8_mean_psnr_db": float(np.mean(found))}
    return small, {name: round(value, 2) for name, value in facts.items()}


def with_refiner(manifest: dict[str, Any], graph: bytes, facts: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the same artifact with a refiner."""
    return {**manifest, "files": {**manifest["files"], REFINER: sha256(graph)}, "refiner": facts}


def check_same_tokenizer(artifact: ModelArtifact, probe: np.ndarray) -> None:
    """Raises ParityError unless the artifact decodes the probe as the refiner's tokenizer did."""
    tokens = TokenSequence(
        PROBE_TOKENS, PROBE_CANVAS, artifact.fingerprint, PROBE_CANVAS, coding=Coding.FIXED
    )
    (decoded,) = ImageTokenizer(artifact).decode([tokens])
    agreement_db = psnr_db(decoded, probe)
    # The probe comes from the fp32 decoder, and an int8 sibling is the same tokenizer.
    asked_db = MIN_SIBLING_PSNR_DB if artifact.config.precision == "int8" else MIN_PARITY_PSNR_DB
    if agreement_db < asked_db:
        raise ParityError(
            f"the refiner was trained on another tokenizer than {artifact.config.name} "
            f"{artifact.fingerprint}: the same tokens agree to {agreement_db:.1f} dB only"
        )


def export_refiner(refiner: Refiner) -> bytes:
    """One step of the flow as a graph, with dynamic batch and canvas."""
    example = _example(2, 64, 48)
    batch, height, width = Dim("batch", min=1), 16 * Dim("height16", min=1), 16 * Dim("width16", min=1)
    picture, number = {0: batch, 2: height, 3: width}, {0: batch}
    dynamic = dict(zip(example, (picture, picture, number, number, number), strict=True))
    return _export(refiner.cpu().eval(), example, dynamic, list(INPUTS), ["velocity"])


def check_refiner_parity(refiner: Refiner, graph: bytes) -> float:
    """Least PSNR between the runtime's loop and the reference sampler; raises ParityError below 50 dB."""
    runtime = RealismDecoder(OnnxSession(graph), WalkFacts(float(refiner.config.noise_share)))
    least_db = 100.0
    for steps, height, width in ((1, 48, 64), (4, 80, 32)):
        _, fidelity, _, length, expected = _example(3, height, width).values()
        noise = torch.from_numpy(normal_noise(7, tuple(fidelity.shape[1:])))
        wanted = sample(refiner, fidelity, length, expected, noise.expand_as(fidelity), steps)
        arrays = (value.numpy() for value in (fidelity, length, expected))
        got = runtime.refine(*arrays, Realism(1.0, steps, seed=7))
        pairs = zip(from_model_output(got), from_model_output(wanted.numpy()), strict=True)
        least_db = min(least_db, *(psnr_db(ours, theirs) for ours, theirs in pairs))
    if least_db < MIN_PARITY_PSNR_DB:
        raise ParityError(f"the runtime's refiner agrees with torch to {least_db:.1f} dB only")
    return least_db


def _example(count: int, height: int, width: int) -> dict[str, Tensor]:
    """Inputs of the step by the names of its arguments: smooth pictures, and a state near them."""
    generator = torch.Generator().manual_seed(count)
    rough = torch.randn(count, 3, height, width, generator=generator)
    fidelity = 128 + 60 * torch.nn.functional.avg_pool2d(rough, 9, 1, 4)
    return {
        "state_B3HW": fidelity + 10 * rough,
        "fidelity_B3HW": fidelity,
        "time_B": torch.linspace(0.1, 0.9, count),
        "length_B": torch.linspace(10, 200, count),
        "expected_mse_B": torch.linspace(900, 50, count),
    }


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Last, and at once: until it names the graph, the folder is the model that it was."""
    beside = folder / "manifest.tmp"
    beside.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    beside.replace(folder / "manifest.json")
