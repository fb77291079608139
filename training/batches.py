"""Batches from windows: cut on the host, or on the device where every picture already lies.

Shapes: b pictures of this process, H W canvas.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.preprocess import resize
from training.data import PictureSet
from training.draws import Windows
from training.memory import check_device


class Batches(Protocol):
    """Cuts windows out of pictures."""

    def cut(self, windows: Windows, canvas: Size) -> Tensor:
        """The windows at the canvas's size, f32[b, 3, H, W] in 0..255, on the device."""
        ...


def batches_of(pictures: PictureSet, device: torch.device, device_cache: bool) -> Batches:
    """The host's or the device's way. Raises DataRefused if the device has no room."""
    return DeviceBatches(pictures, device) if device_cache else HostBatches(pictures, device)


class HostBatches:
    """Pictures stay in main memory; Pillow cuts and scales (Lanczos), as in front of the exported model."""

    def __init__(self, pictures: PictureSet, device: torch.device) -> None:
        self.pictures, self.device = pictures.pictures, device

    def cut(self, windows: Windows, canvas: Size) -> Tensor:
        """See Batches."""
        batch = np.stack([self._one(windows, row, canvas) for row in range(len(windows))])
        return torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()).to(self.device).float()

    def _one(self, windows: Windows, row: int, canvas: Size) -> np.ndarray:
        top, left = windows.top[row], windows.left[row]
        picture = self.pictures[windows.picture[row]]
        part = resize(picture[top : top + windows.height[row], left : left + windows.width[row]], canvas)
        return part[:, ::-1] if windows.flip[row] else part


class DeviceBatches:
    """All pictures in one uint8 buffer on the device, end to end, without padding.

    Windows of the canvas's size are the host's bytes exactly. Others are scaled by an antialiased bicubic
    filter, which PyTorch has, in place of Pillow's Lanczos.
    """

    def __init__(self, pictures: PictureSet, device: torch.device) -> None:
        sizes = pictures.sizes
        lengths = 3 * sizes.prod(1)
        check_device(int(lengths.sum()), device)
        self.shapes = [(3, int(height), int(width)) for height, width in sizes]
        self.starts = np.concatenate(([0], np.cumsum(lengths))).tolist()
        self.buffer = torch.empty(self.starts[-1], dtype=torch.uint8, device=device)
        for number, picture in enumerate(pictures.pictures):
            self._picture(number).copy_(torch.from_numpy(picture.transpose(2, 0, 1).copy()))

    def _picture(self, number: int) -> Tensor:
        """A view of one picture, u8[3, H, W]."""
        return self.buffer[self.starts[number] : self.starts[number + 1]].view(self.shapes[number])

    def cut(self, windows: Windows, canvas: Size) -> Tensor:
        """See Batches."""
        parts = [self._one(windows, row, canvas) for row in range(len(windows))]
        flip = torch.from_numpy(windows.flip).to(self.buffer.device)[:, None, None, None]
        batch = torch.stack(parts).float()
        return torch.where(flip, batch.flip(3), batch)

    def _one(self, windows: Windows, row: int, canvas: Size) -> Tensor:
        top, left = int(windows.top[row]), int(windows.left[row])
        height, width = int(windows.height[row]), int(windows.width[row])
        part = self._picture(int(windows.picture[row]))[:, top : top + height, left : left + width]
        size = (canvas.height_px, canvas.width_px)
        if (height, width) == size:
            return part
        scaled = F.interpolate(part[None].float(), size, mode="bicubic", antialias=True)
        return scaled[0].round().clamp(0, 255).to(torch.uint8)
