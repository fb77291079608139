"""What training minimises. One function per equation."""

from __future__ import annotations

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
