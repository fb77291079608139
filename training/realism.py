"""RefinerTrainer: teaches the flow from fidelity decodes to real pictures, on a frozen tokenizer.

pictures ─ FrozenTokenizer ─ x_hat ┐ (one decode, several crops, times and noises)
    └──────────── x ───────────────┴─ y_t ─ Refiner ─ v      loss = |v - (y_1 - y_0)|^2 / r^2
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenizer.canvas import Size, is_canvas
from tokenizer.coding import Coding
from tokenizer.model import Refiner, RefinerConfig
from tokenizer.model.nested_dropout import sample_lengths
from training.adversary import Adversary, AdversaryConfig
from training.batches import batches_of
from training.checkpoint import load_checkpoint, save_checkpoint
from training.coded_batches import CodedBatches, draw_coding
from training.config import DataConfig, OptimConfig
from training.data import PictureSet
from training.draws import draw_windows
from training.flow import Flow, draw_flow, draw_walk, flow_losses
from training.frozen_tokenizer import Decoded, FrozenTokenizer
from training.loop import train_loop
from training.optim import WeightAverage, rate_at, set_rate


@dataclass(frozen=True)
class RefinerTrainConfig:
    """One run of the refiner, from a tokenizer's checkpoint to its own."""

    name: str
    data: DataConfig = field(default_factory=DataConfig)
    refiner: RefinerConfig = field(default_factory=RefinerConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    canvas: Size = field(default=Size(256, 256))
    """Grid on which prefixes are decoded."""
    crop: Size = field(default=Size(128, 128))
    """Part of the canvas that a step trains on: a convolution learns the whole from parts."""
    batch_size: int = 16
    scale_range: tuple[float, float] = (1.0, 1.0)
    """Side of the part of a picture that is decoded, as a share of the largest one."""
    draws_per_decode: int = 8
    """Steps that use one batch of decodes, each with other crops, times and noises. On a CPU a batch of
    decodes takes 2.2 times as long as a step (0.68 s and 0.31 s of one core): with eight draws a fifth of
    the time, done for each step anew two thirds."""
    num_steps: int = 20_000
    min_tokens: int = 8
    uniform_share: float = 0.2
    """Share of prefixes drawn uniformly, the rest log-uniformly: long prefixes leave little to imagine."""
    coded_share: float = 0.9
    """Share of the batches of decodes that are prefixes of the range coding, which is what most streams are;
    the others are of the fixed coding."""
    crops_per_picture: int = 2
    """Fixed crops of each picture that are range-coded, once per run."""
    start_share: float = 0.25
    """Share of the draws at t = 0, where every walk begins and the one-step walk ends."""
    walk_share: float = 0.0
    """Share of the steps with the adversary on states that the refiner itself has walked to. Without one
    there are none: such a state knows nothing of the real picture, and squared error alone would lead back to
    fidelity."""
    moment_weight: float = 0.0
    """Weight of `pyramid_moment_distance` between real pictures and where one step from y_t would end.
    Off: it has not been shown to help."""
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        wrong = [size for size in (self.canvas, self.crop) if not is_canvas(size)]
        if wrong:
            raise ValueError(f"canvas and crop need sides that are multiples of 16, got {wrong}")
        if self.crop.width_px > self.canvas.width_px or self.crop.height_px > self.canvas.height_px:
            raise ValueError(f"a crop of {self.crop} does not fit on a canvas of {self.canvas}")
        if min(self.batch_size, self.num_steps, self.draws_per_decode) < 1:
            raise ValueError(
                f"at least one picture, step and draw, got "
                f"{self.batch_size}, {self.num_steps} and {self.draws_per_decode}"
            )
        if self.moment_weight < 0:
            raise ValueError(f"moment_weight must be at least 0, got {self.moment_weight}")
        for name, most in (("coded_share", 1), ("walk_share", 1), ("start_share", 0.99)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be in 0..{most}, got {getattr(self, name)}")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RefinerTrainConfig:
        """Inverse of `dataclasses.asdict`."""
        return cls(
            **{
                **data,
                "data": DataConfig(**data["data"]),
                "refiner": RefinerConfig(**data["refiner"]),
                "optim": OptimConfig(**data["optim"]),
                "adversary": AdversaryConfig(
                    **{**data["adversary"], "widths": tuple(data["adversary"]["widths"])}
                ),
                "canvas": Size(**data["canvas"]),
                "crop": Size(**data["crop"]),
                "scale_range": tuple(data["scale_range"]),
            }
        )


class RefinerTrainer:
    """One run in a folder: `RefinerTrainer(config, tokenizer_checkpoint, pictures, folder).run()`."""

    def __init__(
        self, config: RefinerTrainConfig, tokenizer: Path, pictures: PictureSet, folder: Path
    ) -> None:
        self.config, self.pictures, self.folder = config, pictures, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = FrozenTokenizer(tokenizer, self.device)
        self.batches = batches_of(pictures, self.device, device_cache=False)
        self.coded = self._code() if config.coded_share else None
        torch.manual_seed(config.seed)
        self.refiner = Refiner(config.refiner).to(self.device)
        if self.device.type == "cpu":
            self.refiner.to(memory_format=torch.channels_last)
        self.average = WeightAverage(self.refiner, config.optim.ema_decay)
        self.optimizer = torch.optim.AdamW(
            [{"params": list(self.refiner.parameters()), "rate_share": 1.0}],
            lr=config.optim.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=config.optim.weight_decay,
        )
        self.adversary = Adversary(config.adversary, self.device) if config.adversary.psnr_loss_db else None
        self.step = 0
        self._decoded: tuple[int, Decoded] | None = None
        if self.path.exists():
            self._resume(load_checkpoint(self.path))

    @property
    def path(self) -> Path:
        """Where this run's checkpoint lies."""
        return self.folder / "checkpoint.pt"

    def run(self) -> None:
        """Train until `num_steps`, with a progress bar, TensorBoard scalars and checkpoints."""
        train_loop(self, self.config.name, self.config.num_steps)

    def train_step(self) -> dict[str, float]:
        """One optimizer step; returns the losses. An untrained refiner has a flow loss of about 1."""
        config = self.config
        generator = _generator(config.seed, self.step, 0)
        batch = self._decodes().crop(config.crop, generator)
        set_rate(self.optimizer, rate_at(self.step, config.num_steps, config.optim))
        self.optimizer.zero_grad(set_to_none=True)
        adversary = self.adversary if self.step >= config.adversary.from_step else None
        flow = self._draw(batch, generator, walks=adversary is not None)
        losses, facts = flow_losses(flow, batch, config.moment_weight), {}
        if adversary:
            facts["critic"], losses["adversary"] = adversary.play(flow, batch)
            facts |= adversary.facts()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.refiner.parameters(), config.optim.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.average.update(self.refiner)
        shown = {name: float(loss.detach()) for name, loss in losses.items()}
        return {**shown, **facts, "gradient_norm": float(norm)}

    def _draw(self, batch: Decoded, generator: torch.Generator, walks: bool) -> Flow:
        if walks and torch.rand(1, generator=generator) < self.config.walk_share:
            return draw_walk(self.refiner, batch, generator)
        return draw_flow(self.refiner, batch, generator, self.config.start_share)

    def _decodes(self) -> Decoded:
        """Decodes of this step's pictures at random lengths; a function of config and step alone."""
        config, number = self.config, self.step // self.config.draws_per_decode
        if self._decoded is None or self._decoded[0] != number:
            generator = _generator(config.seed, number, 1)
            most = self.tokenizer.max_tokens(config.canvas)
            shortest = min(config.min_tokens, most)
            lengths = sample_lengths(config.batch_size, most, shortest, generator, config.uniform_share)
            coded = draw_coding(config, number) is Coding.RANGE
            self._decoded = number, (self._decode_coded if coded else self._decode_fixed)(number, lengths)
        return self._decoded[1]

    def _decode_fixed(self, number: int, lengths: Tensor) -> Decoded:
        windows = draw_windows(self.config, self.pictures.sizes, self.config.canvas, number)
        return self.tokenizer.decode(self.batches.cut(windows, self.config.canvas), lengths)

    def _decode_coded(self, number: int, lengths: Tensor) -> Decoded:
        assert self.coded is not None  # no batch is drawn in this coding otherwise
        return self.tokenizer.decode_coded(self.coded.draw(number, lengths, slice(None), self.device))

    def _code(self) -> CodedBatches:
        """The coded crops; a file of the same crops in the folder, such as the tokenizer's, is taken over."""
        path, tables = self.folder / "coded.npz", self.tokenizer.layout.tables
        return CodedBatches(
            self.config, self.config.canvas, self.pictures, tables, self.tokenizer.contexts, path
        )

    def save(self) -> None:
        """Write all that resuming and export need."""
        save_checkpoint(
            self.path,
            {
                "config": dataclasses.asdict(self.config),
                "tokenizer": {"name": self.tokenizer.name, "steps": self.tokenizer.steps},
                "probe": torch.from_numpy(self.tokenizer.probe()),
                "model": self.refiner.state_dict(),
                "average": self.average.module.state_dict(),
                "updates": self.average.updates,
                "optimizer": self.optimizer.state_dict(),
                "adversary": self.adversary.state_dict() if self.adversary else None,
                "step": self.step,
            },
        )

    def _resume(self, state: dict[str, Any]) -> None:
        self.refiner.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.adversary and state["adversary"]:
            self.adversary.load_state_dict(state["adversary"])
        self.step = state["step"]


def _generator(seed: int, position: int, purpose: int) -> torch.Generator:
    """Random numbers of one place of a run; each purpose (0 draws, 1 lengths) has its own."""
    return torch.Generator().manual_seed(seed * 1_000_003 + 2 * position + purpose)


def load_refiner(checkpoint: Path) -> tuple[Refiner, dict[str, Any]]:
    """The averaged refiner of a run, and its whole checkpoint."""
    state = load_checkpoint(checkpoint)
    refiner = Refiner(RefinerTrainConfig.from_dict(state["config"]).refiner)
    refiner.load_state_dict(state["average"])
    return refiner.eval(), state
