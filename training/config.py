"""What a training run is: frozen, validated facts. A recipe (recipes.py) returns one."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokenizer.canvas import Size, is_canvas
from tokenizer.model import ModelConfig
from training.linear_codec import LinearCodecConfig


@dataclass(frozen=True)
class DataConfig:
    """Where pictures come from."""

    sources: tuple[str, ...] = ()
    """WebDataset shards (`*.tar`) and folders of pictures."""
    kinds: tuple[str, ...] = ()
    """Only pictures of these kinds, as the shard's index (`SHARD.index.jsonl.gz`) names them; empty = all."""
    limit: int | None = None
    """At most this many pictures, for quick runs."""
    held_out_share: float = 0.0625
    """Share of the keys kept out for validation, and once more for calibration."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up, a constant rate, and a linear fall to zero at the end."""

    learning_rate: float = 1e-3
    """For the decoder; 2e-3 diverged in 400 steps (docs/log.md)."""
    encoder_rate_share: float = 0.1
    """The encoder network learns at this share of the rate: faster, it overloads the quantizer."""
    weight_decay: float = 0.01
    warmup_steps: int = 200
    decay_share: float = 0.5
    clip_norm: float = 1.0
    ema_decay: float = 0.999


@dataclass(frozen=True)
class TrainConfig:
    """One run, from pictures to checkpoint."""

    name: str
    data: DataConfig = field(default_factory=DataConfig)
    linear: LinearCodecConfig = field(default_factory=LinearCodecConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    canvases: tuple[Size, ...] = (Size(256, 256),)
    """Each step draws one; the linear codec is fitted on the first."""
    batch_size: int = 8
    num_steps: int = 10_000
    min_tokens: int = 8
    """Shortest prefix that is trained."""
    uniform_share: float = 0.3
    """Share of prefixes drawn uniformly, the rest log-uniformly."""
    full_length: bool = True
    """Decode the full length besides one prefix in each step (NesTok). Off where the encoder is frozen:
    then the full rate cannot be sacrificed, and the time buys twice the pictures."""
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        wrong = [canvas for canvas in self.canvases if not is_canvas(canvas)]
        if wrong or not self.canvases:
            raise ValueError(
                f"canvases need sides that are multiples of 16 in 16..4096, got {wrong or 'none'}"
            )
        if self.batch_size < 1 or self.num_steps < 1:
            raise ValueError(f"at least one picture and step, got {self.batch_size} and {self.num_steps}")
