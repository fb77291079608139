"""Trainer: the loop and nothing but the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from tokenizer.canvas import Size
from tokenizer.model import AdaptiveTokenizer
from tokenizer.model.nested_dropout import sample_lengths
from tokenizer.spectral import SpectralLayout, SpectralTables
from training.checkpoint import (
    config_to_dict,
    load_checkpoint,
    save_checkpoint,
    tables_from_dict,
    tables_to_dict,
)
from training.config import TrainConfig
from training.data import PictureSet
from training.linear_codec import fit_linear_codec
from training.losses import relative_distortion, squared_error
from training.optim import WeightAverage, build_optimizer, rate_at, set_rate


class Trainer:
    """One run in a folder: `Trainer(config, pictures, folder).run()` starts or resumes it.

    `start` is a checkpoint of another run whose tables and decoder weights this one begins with.
    """

    def __init__(
        self, config: TrainConfig, pictures: PictureSet, folder: Path, start: Path | None = None
    ) -> None:
        self.config, self.pictures, self.folder = config, pictures, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        resumed = load_checkpoint(self.path) if self.path.exists() else None
        before = resumed or (load_checkpoint(start) if start else None)
        tables = tables_from_dict(before["tables"]) if before else self._fit_tables()
        self.layout = SpectralLayout(tables)
        torch.manual_seed(config.seed)
        self.model = AdaptiveTokenizer(config.model, tables).to(self.device)
        if self.device.type == "cpu":
            self.model.to(memory_format=torch.channels_last)
        if before and not resumed:
            self._start_from(before["average"])
        self.average = WeightAverage(self.model, config.optim.ema_decay)
        self.optimizer = build_optimizer(self.model, config.optim)
        self.step = 0
        if resumed:
            self._resume(resumed)

    @property
    def path(self) -> Path:
        """Where this run's checkpoint lies."""
        return self.folder / "checkpoint.pt"

    def run(self) -> None:
        """Train until `num_steps`, with a progress bar, TensorBoard scalars and checkpoints."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with SummaryWriter(str(self.folder)) as board, Progress(*columns) as progress:
            bar = progress.add_task(self.config.name, total=self.config.num_steps, completed=self.step)
            while self.step < self.config.num_steps:
                losses = self.train_step()
                self.step += 1
                if self.step % self.config.log_every == 0:
                    self._log(board, losses)
                    if not progress.console.is_terminal:
                        print(self.step, _describe(self.config.name, losses), flush=True)
                    progress.update(bar, completed=self.step, description=_describe(self.config.name, losses))
                if self.step % self.config.checkpoint_every == 0 or self.step == self.config.num_steps:
                    self.save()

    def train_step(self) -> dict[str, float]:
        """One optimizer step on one batch; returns the relative distortion of each decode."""
        canvas = self._canvas()
        batch = self.pictures.batch(self.step, self.config.batch_size, canvas, self.config.seed)
        image = torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()).to(self.device).float()
        set_rate(self.optimizer, rate_at(self.step, self.config.num_steps, self.config.optim))
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.losses(image, canvas)
        total = torch.stack(list(losses.values())).mean()
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.average.update(self.model)
        return {**{name: float(loss.detach()) for name, loss in losses.items()}, "gradient_norm": float(norm)}

    def losses(self, image: Tensor, canvas: Size) -> dict[str, Tensor]:
        """Relative distortion of one random prefix and, if configured, of the full length."""
        model = self.model
        vertical, horizontal = model.basis(canvas, self.device)
        quantizer = model.quantizer(canvas, self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            coefficients, reference, _ = model.analysis(image, vertical, horizontal)
        classes = self._classes(coefficients.detach(), canvas)
        lengths = {"prefix": self._lengths(len(image), quantizer.max_tokens)}
        if self.config.full_length:
            lengths["full"] = torch.full_like(lengths["prefix"], quantizer.max_tokens)
        losses = {}
        for name, length in lengths.items():
            means = quantizer(coefficients.flatten(1), classes, length).unflatten(1, coefficients.shape[1:])
            linear = model.synthesis.linear(means, vertical, horizontal)
            with torch.autocast(self.device.type, torch.bfloat16):
                decoded = model.synthesis.refine(
                    linear, length.float(), quantizer.expected_mse(classes, length)
                )
            with torch.no_grad():
                if model.analysis.network is not None:  # the bar is what the codec without networks does
                    plain = quantizer(reference.flatten(1), classes, length).unflatten(1, reference.shape[1:])
                    linear = model.synthesis.linear(plain, vertical, horizontal)
                linear_mse = squared_error(linear + model.synthesis.mean, image)
            losses[name] = relative_distortion(squared_error(decoded, image), linear_mse)
        return losses

    def _classes(self, coefficients: Tensor, canvas: Size) -> Tensor:
        chosen = [self.layout.choose_class(c, canvas) for c in coefficients.float().cpu().numpy()]
        return torch.tensor(chosen, device=self.device)

    def _lengths(self, batch_size: int, max_tokens: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        config = self.config
        shortest = min(config.min_tokens, max_tokens)
        return sample_lengths(batch_size, max_tokens, shortest, generator, config.uniform_share).to(
            self.device
        )

    def _canvas(self) -> Size:
        generator = torch.Generator().manual_seed(self.config.seed + 7919 * self.step)
        choice = int(torch.randint(len(self.config.canvases), (1,), generator=generator))
        return self.config.canvases[choice]

    def _fit_tables(self) -> SpectralTables:
        canvas = self.config.canvases[0]
        batches = self.pictures.centre_batches
        return fit_linear_codec(lambda: batches(128, canvas), self.config.linear, canvas)

    def _start_from(self, weights: dict[str, Tensor]) -> None:
        """Take every weight that fits; networks that are new keep their zero start."""
        mine = self.model.state_dict()
        fitting = {k: v for k, v in weights.items() if k in mine and mine[k].shape == v.shape}
        self.model.load_state_dict(fitting, strict=False)

    def save(self) -> None:
        """Write all that resuming and export need."""
        save_checkpoint(
            self.path,
            {
                "config": config_to_dict(self.config),
                "tables": tables_to_dict(self.layout.tables),
                "model": self.model.state_dict(),
                "average": self.average.module.state_dict(),
                "updates": self.average.updates,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            },
        )

    def _resume(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def _log(self, board: SummaryWriter, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            board.add_scalar(f"train/{name}", value, self.step)
        board.add_scalar("train/rate", self.optimizer.param_groups[0]["lr"], self.step)


def _describe(name: str, losses: dict[str, float]) -> str:
    return name + "".join(f" {key} {value:.3f}" for key, value in losses.items())
