"""What a training run is: frozen, validated facts. A recipe (recipes.py) returns one."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokenizer.canvas import Size, is_canvas
from tokenizer.model import ModelConfig, RegisterConfig
from training.linear_codec import LinearCodecConfig
from training.regularizers import RegularizerConfig


@dataclass(frozen=True)
class DataConfig:
    """Where pictures come from."""

    sources: tuple[str, ...] = ()
    """WebDataset shards (`*.tar`), Parquet files, folders, pictures, and glob patterns of these."""
    kinds: tuple[str, ...] = ()
    """Only pictures of these kinds, as the shard's index (`SHARD.index.jsonl.gz`) names them; empty = all."""
    limit: int | None = None
    """At most this many pictures, for quick runs."""
    held_out_share: float = 0.0625
    """Share of the keys kept out for validation, and once more for calibration."""
    image_column: str = "image"
    """Column of a Parquet file that holds the pictures: struct{bytes, path}, or plain bytes."""
    short_side_px: int | None = None
    """Larger pictures are kept in memory with this short side; None = as they are."""
    max_memory_gib: float | None = None
    """Refuse sets that take more as uint8; None = 80 % of the memory that is free."""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out_share < 0.5:
            raise ValueError(f"held_out_share is taken twice: 0 to below 0.5, got {self.held_out_share}")
        for name in ("limit", "short_side_px", "max_memory_gib"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")


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
class ContextConfig:
    """How the context model of the range coding is fitted, after the linear codec."""

    pictures: int = 400
    rounds: int = 2
    """Each round scans the pictures with the model of the one before."""
    questions: int = 20_000
    """Questions kept of each picture."""
    steps: int = 12_000


@dataclass(frozen=True)
class TrainConfig:
    """One run, from pictures to checkpoint."""

    name: str
    data: DataConfig = field(default_factory=DataConfig)
    linear: LinearCodecConfig = field(default_factory=LinearCodecConfig)
    contexts: ContextConfig = field(default_factory=ContextConfig)
    model: ModelConfig | RegisterConfig = field(default_factory=ModelConfig)
    """Its kind is the token layout: spectral or register."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    regularizers: RegularizerConfig = field(default_factory=RegularizerConfig)
    canvases: tuple[Size, ...] = (Size(256, 256),)
    """Each step draws one; the linear codec is fitted, and validation done, on the first."""
    canvas_weights: tuple[float, ...] = ()
    """How often each canvas is drawn, relative to the others; empty = equally often."""
    scale_range: tuple[float, float] = (1.0, 1.0)
    """Side of the crop as a share of the largest crop with the canvas's aspect, drawn per picture."""
    device_cache: bool = False
    """Keep every picture on the device as uint8 and crop, flip and scale there."""
    batch_size: int = 8
    """Pictures of a step, over all processes together."""
    num_steps: int = 10_000
    min_tokens: int = 8
    """Shortest prefix that is trained."""
    uniform_share: float = 0.3
    """Share of prefixes drawn uniformly, the rest log-uniformly."""
    full_length: bool = True
    """Decode the full length besides one prefix in each step (NesTok). Off where the encoder is frozen:
    then the full rate cannot be sacrificed, and the time buys twice the pictures."""
    coded_share: float = 0.75
    """Share of steps on prefixes of the range coding, which are coded once per run; the others quantize
    on the fly. 0 where an encoder network trains: it would change what was coded."""
    crops_per_picture: int = 2
    """Fixed crops of each picture that are coded."""
    refit_tables: bool = False
    """Take only the weights of what a run starts from, and fit the tables of its layout anew."""
    autocast: bool = True
    """Networks in bf16 where the device has it, weights and transforms in fp32; False = all in fp32."""
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 250
    validate_every: int = 1000
    """Steps between validations on held-out pictures; 0 = never."""
    sheet_every: int = 1000
    """Steps between reconstruction sheets in TensorBoard; 0 = never."""
    validation_pictures: int = 32
    """At most this many of the validation split, the first ones: the same in every run on the same data."""

    def __post_init__(self) -> None:
        wrong = [canvas for canvas in self.canvases if not is_canvas(canvas)]
        if wrong or not self.canvases:
            raise ValueError(
                f"canvases need sides that are multiples of 16 in 16..4096, got {wrong or 'none'}"
            )
        if self.batch_size < 1 or self.num_steps < 1:
            raise ValueError(f"at least one picture and step, got {self.batch_size} and {self.num_steps}")
        low, high = self.scale_range
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale_range needs 0 < low <= high <= 1, got {self.scale_range}")
        self._check_weights()
        has_encoder = isinstance(self.model, RegisterConfig) or bool(self.model.encoder_widths)
        if not 0 <= self.coded_share <= 1 or (self.coded_share and has_encoder):
            raise ValueError(
                f"coded_share must lie in 0..1, and be 0 with an encoder network, got {self.coded_share}"
            )
        if self.regularizers.coding_rate_weight and not self.model.encoder_widths:
            raise ValueError(
                "coding_rate_weight needs an encoder network (model.encoder_widths and encoder_depths): "
                f"without one the codes are a fixed transform, got {self.regularizers.coding_rate_weight}"
            )
        for name in ("log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def _check_weights(self) -> None:
        weights = self.canvas_weights
        if weights and (len(weights) != len(self.canvases) or min(weights) < 0 or sum(weights) == 0):
            raise ValueError(
                f"canvas_weights needs one weight per canvas, none below 0 and not all 0: "
                f"got {len(weights)} for {len(self.canvases)} canvases"
            )
