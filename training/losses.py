"""What training minimises. One function per equation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def squared_error(decoded_B3HW: Tensor, target_B3HW: Tensor) -> Tensor:
    """Mean squared error per picture, f32[B]."""
    return (decoded_B3HW.float() - target_B3HW).square().mean((1, 2, 3))


def distortion_ratio(mse_B: Tensor, linear_mse_B: Tensor) -> Tensor:
    """MSE / MSE of the linear codec at the same bytes, f32[B].

    The floor of 0.1 (58 dB) keeps flat pictures, which the linear codec gets right, from dividing by 0.
    """
    return mse_B / linear_mse_B.clamp_min(0.1)


def relative_distortion(mse_B: Tensor, linear_mse_B: Tensor) -> Tensor:
    """Mean ratio: 1 before training, below it after.

    Every budget and picture counts the same, as in mean PSNR; 10 log10 of it reads as decibels lost.
    """
    return distortion_ratio(mse_B, linear_mse_B).mean()


def pyramid_moment_distance(picture_B3HW: Tensor, target_B3HW: Tensor, levels: int = 3) -> Tensor:
    """How differently two pictures are rough, wherever the roughness sits: f32[B], 0 for equal statistics.

    Mean over the levels of a Laplacian pyramid (Burt and Adelson 1983) and colours of the squared
    difference of log deviations. Blur at any scale costs, and the place of detail does not.
    """
    distances = []
    for ours, theirs in zip(
        _laplacian_levels(picture_B3HW, levels), _laplacian_levels(target_B3HW, levels), strict=True
    ):
        # One grey level as a floor: below it there is nothing to see, and the logarithm would shout.
        logs = [torch.log(1 + band.square().mean((2, 3))) for band in (ours, theirs)]
        distances.append((logs[0] - logs[1]).square().mean(1))
    return torch.stack(distances).mean(0)


def _laplacian_levels(picture_B3HW: Tensor, levels: int) -> list[Tensor]:
    bands = []
    for _ in range(levels):
        smaller = F.avg_pool2d(picture_B3HW, 2)
        bands.append(picture_B3HW - F.interpolate(smaller, scale_factor=2, mode="nearest"))
        picture_B3HW = smaller
    return bands
