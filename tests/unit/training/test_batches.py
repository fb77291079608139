"""Batches cut on the host and on the device hold the same pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from generated_pictures import picture

from tokenizer.canvas import Size
from training.batches import DeviceBatches, HostBatches, batches_of
from training.config import TrainConfig
from training.data import PictureSet
from training.draws import draw_windows
from training.sources import DataRefused

CANVAS, CPU = Size(48, 32), torch.device("cpu")
CONFIG = TrainConfig(name="batches", canvases=(CANVAS,), batch_size=12)


def pictures(*sizes: tuple[int, int]) -> PictureSet:
    return PictureSet(
        tuple(map(str, range(len(sizes)))), tuple(picture(i, *size) for i, size in enumerate(sizes))
    )


def cut_both(made: PictureSet, config: TrainConfig) -> tuple[torch.Tensor, torch.Tensor]:
    windows = draw_windows(config, made.sizes, CANVAS, step=1)
    assert 0 < windows.flip.sum() < len(windows)
    return HostBatches(made, CPU).cut(windows, CANVAS), DeviceBatches(made, CPU).cut(windows, CANVAS)


def test_without_scaling_host_and_device_cut_the_same_bytes() -> None:
    """Pictures that fit the canvas in one side: windows move along the other."""
    host, device = cut_both(pictures((48, 32), (60, 32), (48, 50), (90, 32)), CONFIG)
    assert host.shape == (12, 3, 32, 48)
    assert host.dtype == torch.float32
    assert torch.equal(host, device)


@pytest.mark.parametrize("factor", [0.5, 1.5, 4.0])
def test_with_scaling_they_differ_by_their_filters_only(factor: float) -> None:
    """Lanczos against antialiased bicubic: 40 to 45 dB apart on these pictures, which have hard edges."""
    side = round(64 * factor)
    host, device = cut_both(pictures((side, side), (2 * side, side)), replace(CONFIG, scale_range=(0.6, 1.0)))
    mse = float((host - device).square().mean())
    assert 10 * np.log10(255**2 / mse) > 35
    assert device.min() >= 0 and device.max() <= 255
    assert torch.equal(device, device.round())


def test_a_cut_is_the_part_of_the_picture_that_the_window_says() -> None:
    made = pictures((60, 40))
    windows = draw_windows(replace(CONFIG, batch_size=1), made.sizes, CANVAS, step=0)
    top, left = int(windows.top[0]), int(windows.left[0])
    height, width = int(windows.height[0]), int(windows.width[0])
    part = made.pictures[0][top : top + height, left : left + width]
    expected = part[:, ::-1] if windows.flip[0] else part
    cut = HostBatches(made, CPU).cut(windows, Size(width, height))[0]
    assert np.array_equal(cut.permute(1, 2, 0).numpy().astype(np.uint8), expected)


def test_a_device_without_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.memory._free_host_bytes", lambda: 5000.0)
    assert isinstance(batches_of(pictures((48, 32)), CPU, device_cache=False), HostBatches)
    with pytest.raises(DataRefused, match="device_cache needs"):
        batches_of(pictures((48, 32)), CPU, device_cache=True)
