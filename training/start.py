"""What a run begins with where it does not begin with nothing: the checkpoint of another run, or an artifact.

checkpoint.pt → tables and averaged weights
artifact      → tables, and the weights that its graphs hold by name
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokenizer.artifact import read_manifest, read_verified, resolve, tables_from_bytes
from tokenizer.config import TokenizerConfig
from tokenizer.contexts import ContextTables
from tokenizer.spectral import SpectralTables
from training.checkpoint import load_checkpoint, tables_to_dict

# Module of the model that each graph is the export of.
_MODULES = {"analysis": "encoder.onnx", "synthesis": "decoder.onnx"}


class StartRefused(ValueError):
    """What was named to start from cannot be continued."""


def load_start(start: Path | str, with_tables: bool = True) -> dict[str, Any]:
    """Tables, contexts and `average`, the weights, as a checkpoint has them; without tables, weights alone.

    `start` is a checkpoint, a folder of an artifact, or a shipped model's name. Raises ArtifactError,
    StartRefused.
    """
    if Path(start).is_file():
        state = load_checkpoint(Path(start))
        return state if with_tables else {"average": state["average"]}
    path = resolve(start)
    manifest = read_manifest(path)
    config = TokenizerConfig.from_json(read_verified(path, "config.json", manifest).decode())
    if config.precision != "fp32":
        raise StartRefused(f"{config.name} has {config.precision} weights, training goes on from fp32")
    weights = {
        f"{module}.{name}": torch.from_numpy(value)
        for module, graph in _MODULES.items()
        for name, value in _float_weights(read_verified(path, graph, manifest)).items()
    }
    if not with_tables:
        return {"average": weights}
    spectral = tables_from_bytes(SpectralTables, read_verified(path, "tables.npz", manifest))
    contexts = tables_from_bytes(ContextTables, read_verified(path, "contexts.npz", manifest))
    return {"tables": tables_to_dict(spectral), "contexts": tables_to_dict(contexts), "average": weights}


def fitting(
    weights: dict[str, Tensor], model: torch.nn.Module, trained_only: bool = False
) -> dict[str, Tensor]:
    """Those of the weights that the model has; networks and blocks that are new keep their own start.

    `trained_only` leaves out buffers, which hold numbers of the tables. Raises StartRefused where sizes
    differ or nothing is shared: the run would silently begin at nothing.
    """
    mine = dict(model.named_parameters())
    shared = [name for name in mine if name in weights]
    if not shared:
        raise StartRefused("no weight of the start has the name of one of this recipe's")
    for name in shared:
        if mine[name].shape != weights[name].shape:
            sizes = f"{list(weights[name].shape)} in the start and {list(mine[name].shape)} in this recipe"
            raise StartRefused(f"{name} is {sizes}: give it the same sizes (--set model.decoder_widths=...)")
    kept = mine if trained_only else model.state_dict()
    return {name: value for name, value in weights.items() if name in kept}


def _float_weights(graph: bytes) -> dict[str, np.ndarray]:
    """Initializers f32 by name: the exporter keeps the names of a module's weights."""
    import onnx  # part of `export`, which a run from a checkpoint does not need
    from onnx.numpy_helper import to_array

    initializers = onnx.load_from_string(graph).graph.initializer
    return {i.name: to_array(i).copy() for i in initializers if i.data_type == onnx.TensorProto.FLOAT}
