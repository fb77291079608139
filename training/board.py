"""What a run shows: a progress bar, one line per log, TensorBoard. Knows nothing of models."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from training.checkpoint import config_to_dict
from training.config import TrainConfig


class Board:
    """`with Board(...) as board:`; in all processes but the first it is silent and writes nothing."""

    def __init__(self, folder: Path, config: TrainConfig, step: int, is_shown: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._name = config.name
        self._progress = Progress(*columns, disable=not is_shown)
        self._bar = self._progress.add_task(config.name, total=config.num_steps, completed=step)
        # What a killed run wrote after its last checkpoint would lie beside what comes now.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None) if is_shown else None
        if self._writer and not step:
            self._writer.add_text("config", f"```json\n{json.dumps(config_to_dict(config), indent=2)}\n```")

    def __enter__(self) -> Board:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._writer:
            self._writer.close()

    def scalars(self, step: int, group: str, values: dict[str, float]) -> None:
        """Each as a curve `group/name`."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def advance(self, step: int, shown: dict[str, float]) -> None:
        """Move the bar, or print a line where there is no terminal."""
        line = self._name + "".join(f" {name} {value:.3f}" for name, value in shown.items())
        self._progress.update(self._bar, completed=step, description=line)
        if not self._progress.console.is_terminal:
            self.say(f"{step} {line}")

    def say(self, line: str) -> None:
        """One line above the bar."""
        if self._writer:
            self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """u8[H, W, 3] under the images."""
        if self._writer:
            self._writer.add_image(name, pixels, step, dataformats="HWC")
