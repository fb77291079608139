"""A trained model with new tables of the range coding: no network is trained, no checkpoint needed.

artifact → encoder graph on training pictures → fit_contexts → the same artifact, other tables and fingerprint

Its own tables of the range coding are not read: they may be of a release that priced bits in another way.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tokenizer.artifact import (
    REFINER,
    ModelArtifact,
    files_of,
    read_manifest,
    read_verified,
    resolve,
    sha256,
    tables_from_bytes,
    tables_to_bytes,
)
from tokenizer.config import TokenizerConfig
from tokenizer.contexts import ContextTables
from tokenizer.errors import ArtifactError
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import to_model_input
from tokenizer.spectral import SpectralLayout, SpectralTables
from training.config import ContextConfig
from training.context_model import fit_contexts
from training.curves import BATCH_SIZE, basis_of
from training.data import load_pictures
from training.export import stream_fingerprint, write_artifact
from training.run_facts import run_facts

# Of both siblings, these have to be the same bytes.
_SHARED = ("tables.npz", "encoder.onnx", "halting.onnx")


class RecodeError(ArtifactError):
    """A model that cannot be given new tables."""


def recode(
    model: str,
    sources: tuple[str, ...],
    out: Path,
    version: str,
    *,
    limit: int | None = None,
    steps: int | None = None,
    like: str | None = None,
) -> str:
    """Write a copy of the artifact with new tables; return its fingerprint.

    Tables are fitted on training pictures of `sources`, as many and in as many steps as its recipe says or
    `limit` and `steps`; or taken, margins and all, from the artifact `like`, its sibling of another
    precision. Raises ArtifactError, ValueError.
    """
    path = resolve(model)
    manifest = read_manifest(path)
    config = TokenizerConfig.from_json(read_verified(path, "config.json", manifest).decode())
    if config.layout != "spectral":
        raise RecodeError(f"{config.name} has the layout {config.layout!r}, which has no range coding")
    files = (*files_of(config.layout), *((REFINER,) if REFINER in manifest["files"] else ()))
    contents = {name: read_verified(path, name, manifest) for name in files}
    tables = tables_from_bytes(SpectralTables, contents["tables.npz"])
    config = replace(config, version=version)
    # What was measured on the range coding no longer holds.
    measured = {coding: rate for coding, rate in manifest["rate_distortion"].items() if coding == "fixed"}
    if like:
        sibling = _sibling(like, contents)
        contexts, config = sibling.contexts, replace(config, margin_scores=sibling.config.margin_scores)
        facts = {name: sibling.manifest[name] for name in ("halting", "recipe")}
        measured.update(sibling.manifest["rate_distortion"])
    else:
        fit = _fit_config(manifest, limit, steps)
        contexts = _fit(contents["encoder.onnx"], tables, manifest, sources, fit)
        facts = {"recipe": {**manifest["recipe"], "contexts": asdict(fit)}}
    contents["config.json"], contents["contexts.npz"] = config.to_json().encode(), tables_to_bytes(contexts)
    # `export` takes the weights of an encoder network from the checkpoint; its graph names them as well.
    encoder = [contents["encoder.onnx"]] if manifest["parameters"]["encoder"] else []
    names = {
        "digest": _digest(config, contents["contexts.npz"], manifest),
        "fingerprint": stream_fingerprint(config, contexts, tables, encoder),
    }
    write_artifact(out, contents, {**manifest, **facts, **names, "rate_distortion": measured}, files)
    return names["fingerprint"]


def _fit_config(manifest: dict[str, Any], limit: int | None, steps: int | None) -> ContextConfig:
    try:
        before = ContextConfig(**manifest["recipe"]["contexts"])
    except (KeyError, TypeError) as error:
        raise RecodeError(f"the manifest does not tell how its tables were fitted: {error!r}") from error
    return replace(before, pictures=limit or before.pictures, steps=steps or before.steps)


def _sibling(like: str, contents: dict[str, bytes]) -> ModelArtifact:
    sibling = ModelArtifact.load(like)
    other = [name for name in _SHARED if (sibling.path / name).read_bytes() != contents[name]]
    if other:
        raise RecodeError(f"{like} is no sibling: it has another {', another '.join(other)}")
    return sibling


def _fit(
    encoder: bytes,
    tables: SpectralTables,
    manifest: dict[str, Any],
    sources: tuple[str, ...],
    config: ContextConfig,
) -> ContextTables:
    canvas, data = run_facts(manifest, sources)
    session, pictures = OnnxSession(encoder), load_pictures(replace(data, limit=config.pictures), "train")
    coefficients: list[np.ndarray] = []
    for batch in pictures.centre_batches(BATCH_SIZE, canvas):
        out = session.run(image=to_model_input(list(batch)), **basis_of(canvas))
        coefficients.extend(out["coefficients"])
    return fit_contexts(SpectralLayout(tables), coefficients, canvas, config)


def _digest(config: TokenizerConfig, contexts: bytes, manifest: dict[str, Any]) -> str:
    """Names the pixels, as that of `export` does, which reads weights that are not here."""
    rules = replace(config, margin_scores={}).to_json().encode()
    return sha256(json.dumps([manifest["digest"], sha256(rules), sha256(contexts)]).encode())
