"""What a job that rebuilds pictures is asked for: everything that changes its output. Runs nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from serving.batch.options import DEFAULT_UNIT_SIZE, Command
from tokenizer.realism import DEFAULT_STEPS

PictureSinkName = Literal["folder", "webdataset"]
PICTURE_SINKS: tuple[PictureSinkName, ...] = ("folder", "webdataset")


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Two jobs with equal options, streams and model write equal pictures."""

    sources: tuple[str, ...]
    sink: PictureSinkName = "folder"
    model: str = "default"
    format: str = "png"
    quality: int | None = None
    """1..100 of jpeg and webp; by default what `write_image` takes."""
    max_tokens: int | None = None
    """Decode only this prefix of each stream."""
    realism: float = 0.0
    steps: int = DEFAULT_STEPS
    seed: int = 0
    unit_size: int = DEFAULT_UNIT_SIZE
    """Streams of one unit in a tree of `.tsr` files; a shard is a unit as it is."""

    @property
    def command(self) -> Command:
        """See JobOptions."""
        return "decode"

    @property
    def ending(self) -> str:
        """File ending of the pictures.

        >>> DecodeOptions(("tokens",), format="jpeg").ending
        '.jpg'
        """
        return {"jpeg": ".jpg"}.get(self.format, f".{self.format}")

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)
