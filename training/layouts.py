"""Which trainer and which release a run's token layout needs. Only a register run imports FSQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizer.model import RegisterConfig
from training.config import TrainConfig

if TYPE_CHECKING:
    from training.trainer import Trainer


def trainer_kind(config: TrainConfig) -> type[Trainer]:
    """The trainer of this run's layout."""
    if isinstance(config.model, RegisterConfig):
        from training.register_trainer import RegisterTrainer

        return RegisterTrainer
    from training.trainer import Trainer

    return Trainer
