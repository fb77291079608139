"""The loop around a training step: progress bar, TensorBoard, checkpoints. Knows no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter


class Steps(Protocol):
    """What is run: a position, one step, and a way to keep both."""

    config: Any
    """Has `log_every` and `checkpoint_every`."""
    folder: Path
    optimizer: torch.optim.Optimizer
    step: int

    def train_step(self) -> dict[str, float]:
        """One optimizer step; returns what to show."""

    def save(self) -> None:
        """Write a checkpoint."""


def train_loop(trainer: Steps, name: str, num_steps: int) -> None:
    """Step until `num_steps`; where nobody watches a bar, print a line now and then."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with SummaryWriter(str(trainer.folder)) as board, Progress(*columns) as progress:
        bar = progress.add_task(name, total=num_steps, completed=trainer.step)
        while trainer.step < num_steps:
            values = trainer.train_step()
            trainer.step += 1
            if trainer.step % trainer.config.log_every == 0:
                for key, value in values.items():
                    board.add_scalar(f"train/{key}", value, trainer.step)
                board.add_scalar("train/rate", trainer.optimizer.param_groups[0]["lr"], trainer.step)
                text = name + "".join(f" {key} {value:.3f}" for key, value in values.items())
                progress.update(bar, completed=trainer.step, description=text)
                if not progress.console.is_terminal:
                    print(trainer.step, text, flush=True)
            if trainer.step % trainer.config.checkpoint_every == 0 or trainer.step == num_steps:
                trainer.save()
