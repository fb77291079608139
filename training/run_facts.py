"""What an artifact tells of the run that made it: the canvas, and how its data was split."""

from __future__ import annotations

from typing import Any

from tokenizer.canvas import Size
from tokenizer.errors import ArtifactError
from training.config import DataConfig


def run_facts(manifest: dict[str, Any], sources: tuple[str, ...]) -> tuple[Size, DataConfig]:
    """The canvas that a model was trained on, and its split of these data. Raises ArtifactError."""
    try:
        recipe = manifest["recipe"]
        canvas = Size(**recipe["canvases"][0])
        return canvas, DataConfig(sources=sources, held_out_share=recipe["data"]["held_out_share"])
    except (KeyError, IndexError, TypeError) as error:
        raise ArtifactError(f"the manifest tells no recipe: {error!r}") from error
