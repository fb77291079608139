"""Checkpoints: weights, average, optimizer, position and config in one file, written atomically."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from tokenizer.canvas import Size
from tokenizer.contexts import ContextTables
from tokenizer.model import ModelConfig, RegisterConfig
from tokenizer.spectral import SpectralTables
from training.config import ContextConfig, DataConfig, OptimConfig, TrainConfig
from training.linear_codec import LinearCodecConfig
from training.regularizers import RegularizerConfig

FORMAT = 2


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside the target and rename, so that a kill never leaves half a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    torch.save({"format": FORMAT, **state}, beside)
    os.replace(beside, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raises ValueError on another format."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("format") != FORMAT:
        raise ValueError(f"{path} has checkpoint format {state.get('format')}, this code reads {FORMAT}")
    return state


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain data of a config, for a checkpoint or a model card."""
    return dataclasses.asdict(config)


def config_from_dict(data: dict[str, Any]) -> TrainConfig:
    """Inverse of `config_to_dict`."""
    plain = dict(data)
    model = RegisterConfig if "num_registers" in plain["model"] else ModelConfig
    return TrainConfig(
        **{
            **plain,
            "data": DataConfig(**plain["data"]),
            "linear": LinearCodecConfig(**plain["linear"]),
            "model": model(**plain["model"]),
            "contexts": ContextConfig(**plain["contexts"]),
            "optim": OptimConfig(**plain["optim"]),
            # Checkpoints of 0.2.0 know no regularizers.
            "regularizers": RegularizerConfig(**plain.get("regularizers", {})),
            "canvases": tuple(Size(**canvas) for canvas in plain["canvases"]),
        }
    )


def changed_settings(before: dict[str, Any], now: dict[str, Any], where: tuple[str, ...] = ()) -> list[str]:
    """`key old → new` for every setting that differs; settings that `before` lacks are new in the code."""
    changes = []
    for name, value in now.items():
        old = before.get(name, value)
        if isinstance(value, dict):
            changes += changed_settings(old, value, (*where, name))
        elif old != value:
            changes.append(f"{'.'.join((*where, name))} {old} → {value}")
    return changes


def tables_to_dict(tables: SpectralTables | ContextTables) -> dict[str, torch.Tensor]:
    """Tables as tensors."""
    return {f.name: torch.from_numpy(getattr(tables, f.name)) for f in dataclasses.fields(tables)}


def tables_from_dict(data: dict[str, torch.Tensor]) -> SpectralTables:
    """Inverse of `tables_to_dict`."""
    return SpectralTables(**{name: value.numpy() for name, value in data.items()})


def contexts_from_dict(data: dict[str, torch.Tensor]) -> ContextTables:
    """Inverse of `tables_to_dict` for context tables."""
    return ContextTables(**{name: value.numpy() for name, value in data.items()})
