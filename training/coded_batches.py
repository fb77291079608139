"""Batches of range-coded prefixes: fixed crops, coded once per run, mirrored and cut at random.

Pure functions of (seed, step), as all draws. Shapes: B pictures of the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.contexts import ContextTables
from tokenizer.spectral import SpectralTables
from training.batches import HostBatches
from training.coded import CodedSet, code_pictures
from training.data import PictureSet, largest_window
from training.draws import Purpose, Windows, generator, pick


@dataclass(frozen=True)
class CodedBatch:
    """One process's part of a batch."""

    image: Tensor
    """f32[b, 3, H, W] in 0..255."""
    means: Tensor
    """DCT coefficients after the prefix, f32[b, 3, bh, bw]."""
    expected_mse: Tensor
    length: Tensor
    flip: Tensor
    """bool[b]: picture and decode are to be mirrored."""


class CodedConfig(Protocol):
    """What coded crops are drawn by."""

    @property
    def seed(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def coded_share(self) -> float: ...
    @property
    def crops_per_picture(self) -> int: ...


class OtherCrops(ValueError):
    """A file of coded crops that were made from other pictures."""


def draw_coding(config: CodedConfig, step: int) -> Coding:
    """Which coding a step trains on: one for the whole batch."""
    chance = generator(config.seed, Purpose.CODING, step).random()
    return Coding.RANGE if chance < config.coded_share else Coding.FIXED


class CodedBatches:
    """The coded crops of a run on one canvas."""

    def __init__(
        self,
        config: CodedConfig,
        canvas: Size,
        pictures: PictureSet,
        tables: SpectralTables,
        contexts: ContextTables,
        path: Path,
    ) -> None:
        """Code all crops into `path`, or read them from there; raises OtherCrops if they cannot be these."""
        self.config, self.canvas = config, canvas
        self._cutter = HostBatches(pictures, torch.device("cpu"))
        self._windows = fixed_windows(config, pictures.sizes, self.canvas)
        if not path.exists():
            code_pictures(self._crops(), tables, contexts, self.canvas).save(path)
        self._coded = CodedSet.load(path, self.canvas)
        if len(self._coded.pictures) != self.count:
            raise OtherCrops(
                f"{path} holds {len(self._coded.pictures)} coded crops, these pictures give {self.count}"
            )

    def _crops(self) -> list[np.ndarray]:
        """All crops, uint8[H, W, 3]."""
        rows = (self._cutter.cut(self._windows.part(slice(i, i + 1)), self.canvas) for i in range(self.count))
        return [row[0].permute(1, 2, 0).to(torch.uint8).numpy() for row in rows]

    @property
    def count(self) -> int:
        """Number of crops."""
        return len(self._windows)

    def draw(self, step: int, length_b: Tensor, share: slice, device: torch.device) -> CodedBatch:
        """This process's rows of a step's batch, cut to these lengths."""
        first = step * self.config.batch_size
        positions = range(first, first + self.config.batch_size)[share]
        picks = np.asarray([pick(position, self.count, self.config.seed) for position in positions])
        flips = generator(self.config.seed, Purpose.WINDOWS, step).random(self.config.batch_size) < 0.5
        means, expected = self._coded.prefixes(picks, length_b.cpu().numpy())
        image = self._cutter.cut(self._windows.rows(picks), self.canvas)
        arrays = (image, torch.from_numpy(means), torch.from_numpy(expected))
        flip = torch.from_numpy(flips[share]).to(device)
        image, means_b, expected_b = (array.to(device) for array in arrays)
        return CodedBatch(image, means_b, expected_b, length_b, flip)


def fixed_windows(config: CodedConfig, sizes: np.ndarray, canvas: Size) -> Windows:
    """`crops_per_picture` windows of every picture, each at a random place of its largest extent."""
    picture = np.tile(np.arange(len(sizes)), config.crops_per_picture)
    down, right = generator(config.seed, Purpose.CROPS, 0).random((2, len(picture)))
    largest = [largest_window(Size(width, height), canvas) for height, width in sizes.tolist()]
    part = np.asarray([(size.height_px, size.width_px) for size in largest])[picture]
    free = sizes[picture] - part + 1
    return Windows(
        picture=picture,
        top=(down * free[:, 0]).astype(np.int64),
        left=(right * free[:, 1]).astype(np.int64),
        height=part[:, 0],
        width=part[:, 1],
        flip=np.zeros(len(picture), np.bool_),
    )
