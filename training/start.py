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

from tokenizer.artifact import ModelArtifact
from training.checkpoint import load_checkpoint, tables_to_dict

# Module of the model that each graph is the export of.
_MODULES = {"analysis": "encoder.onnx", "synthesis": "decoder.onnx"}


class StartRefused(ValueError):
    """What was named to start from cannot be continued."""


def load_start(start: Path | str) -> dict[str, Any]:
    """Tables, contexts and `average`, the weights, as a checkpoint has them.

    `start` is a checkpoint, a folder of an artifact, or a shipped model's name. Raises ArtifactError,
    StartRefused.
    """
    if Path(start).is_file():
        return load_checkpoint(Path(start))
    artifact = ModelArtifact.load(start)
    if artifact.config.precision != "fp32":
        raise StartRefused(
            f"{artifact.config.name} has {artifact.config.precision} weights, training goes on from fp32"
        )
    weights = {
        f"{module}.{name}": torch.from_numpy(value)
        for module, graph in _MODULES.items()
        for name, value in _float_weights(artifact.graphs[graph]).items()
    }
    tables = {"tables": artifact.tables, "contexts": artifact.contexts}
    return {**{name: tables_to_dict(table) for name, table in tables.items()}, "average": weights}


def fitting(weights: dict[str, Tensor], model: torch.nn.Module) -> dict[str, Tensor]:
    """Those of the weights that the model has; networks and blocks that are new keep their own start.

    Raises StartRefused where sizes differ or nothing is shared: the run would silently begin at nothing.
    """
    mine = dict(model.named_parameters())
    shared = [name for name in mine if name in weights]
    if not shared:
        raise StartRefused("no weight of the start has the name of one of this recipe's")
    for name in shared:
        if mine[name].shape != weights[name].shape:
            sizes = f"{list(weights[name].shape)} in the start and {list(mine[name].shape)} in this recipe"
            raise StartRefused(f"{name} is {sizes}: give it the same widths (--set model.decoder_widths=...)")
    return {name: value for name, value in weights.items() if name in model.state_dict()}


def _float_weights(graph: bytes) -> dict[str, np.ndarray]:
    """Initializers f32 by name: the exporter keeps the names of a module's weights."""
    import onnx  # part of `export`, which a run from a checkpoint does not need
    from onnx.numpy_helper import to_array

    initializers = onnx.load_from_string(graph).graph.initializer
    return {i.name: to_array(i).copy() for i in initializers if i.data_type == onnx.TensorProto.FLOAT}
