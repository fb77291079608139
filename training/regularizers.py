"""Penalties beside the distortion: coding rate of codes, spectral norm of weights. Both off by default.

What each one measured is in docs/log.md. Nothing here knows pictures, bits or lengths.
Shapes: N samples, d code dimensions, B batch, n coefficients, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CODING_RATE, SPECTRAL_NORM = "coding_rate", "spectral_norm"
"""Names among a step's losses. Their values are shown unweighted, so that runs can be compared."""


@dataclass(frozen=True)
class RegularizerConfig:
    """Weights of the penalties; 0 = off, and then nothing is computed."""

    coding_rate_weight: float = 0.0
    """Nats per code dimension that are worth a whole loss of 1. Needs an encoder network."""
    coding_rate_eps: float = 0.5
    """Distortion that the rate is counted at: directions that vary less than it count as collapsed."""
    coding_rate_features: int = 16
    """Code dimensions d. More than a process has pictures in a batch only spread pictures apart and no
    longer say whether the dimensions are correlated."""
    spectral_norm_weight: float = 0.0
    """Yoshida and Miyato's lambda."""
    spectral_norm_iterations: int = 8
    """Power iterations from a fresh start in every step."""

    def __post_init__(self) -> None:
        for name in ("coding_rate_weight", "spectral_norm_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.coding_rate_eps <= 0:
            raise ValueError(f"coding_rate_eps must be above 0, got {self.coding_rate_eps}")
        for name in ("coding_rate_features", "spectral_norm_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def objective(losses: Mapping[str, Tensor], config: RegularizerConfig) -> Tensor:
    """What a step minimises: the mean of its decodes' losses, and each penalty by its weight."""
    weights = {CODING_RATE: -config.coding_rate_weight, SPECTRAL_NORM: config.spectral_norm_weight}
    total = torch.stack([loss for name, loss in losses.items() if name not in weights]).mean()
    for name, weight in weights.items():
        if name in losses:
            total = total + weight * losses[name]
    return total


def rate_of_codes(codes_Nd: Tensor, config: RegularizerConfig) -> dict[str, Tensor]:
    """Coding rate of codes in nats per dimension, each code scaled to the unit sphere; {} if it is off.

    On the sphere as in SimDINO (Wu et al. 2025): otherwise the cheapest way to a higher rate is larger
    codes, and a quantizer whose cells are fixed overloads.
    """
    if not config.coding_rate_weight:
        return {}
    rate = coding_rate(F.normalize(codes_Nd.float(), dim=1), config.coding_rate_eps)
    return {CODING_RATE: rate / codes_Nd.shape[1]}


def rate_of_coefficients(
    coefficients_Bn: Tensor, sigmas_Cn: Tensor, class_B: Tensor, config: RegularizerConfig
) -> dict[str, Tensor]:
    """`rate_of_codes` of the spectral layout, whose codes are its leading coefficients; {} if it is off."""
    if not config.coding_rate_weight:
        return {}
    return rate_of_codes(
        leading_codes(coefficients_Bn, sigmas_Cn, class_B, config.coding_rate_features), config
    )


def norm_of_weights(model: nn.Module, config: RegularizerConfig) -> dict[str, Tensor]:
    """Half the sum of the layers' squared spectral norms (Yoshida and Miyato 2017); {} if it is off."""
    if not config.spectral_norm_weight:
        return {}
    norms = [spectral_norm(weight, config.spectral_norm_iterations) for _, weight in layer_weights(model)]
    return {SPECTRAL_NORM: torch.stack(norms).square().sum() / 2}


def coding_rate(codes_Nd: Tensor, eps: float) -> Tensor:
    """Nats that N codes of d dimensions take at distortion eps, a scalar.

    R(Z) = 1/2 log det(I + d / (N eps^2) Z^T Z)     Yu et al. 2020 (MCR2, arXiv 2006.08558), eq. 1

    In fp32 by Cholesky's factors of the smaller of both Gram matrices, whose determinants are equal
    (Sylvester). Codes that are not finite give a rate that is not, in place of an error.

    >>> float(coding_rate(torch.eye(4), eps=0.5)) == float(4 * torch.tensor(5.0).sqrt().log())
    True
    """
    count, width = codes_Nd.shape
    with torch.autocast(codes_Nd.device.type, enabled=False):
        codes = codes_Nd.float()
        gram = codes @ codes.T if count < width else codes.T @ codes
        covariance = gram * (width / (count * eps**2)) + torch.eye(len(gram), device=gram.device)
        factor, _ = torch.linalg.cholesky_ex(covariance)
        return factor.diagonal().log().sum()  # of the factor: half the log of the determinant


def effective_rank(codes_Nd: Tensor) -> float:
    """How many directions the codes use: exp of the entropy of singular values (Roy and Vetterli 2007).

    >>> round(effective_rank(torch.eye(4)), 4), round(effective_rank(torch.ones(4, 4)), 4)
    (4.0, 1.0)
    """
    singular = torch.linalg.svdvals(codes_Nd.detach().double())
    share = singular / singular.sum()
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


def leading_codes(coefficients_Bn: Tensor, sigmas_Cn: Tensor, class_B: Tensor, count: int) -> Tensor:
    """The `count` coefficients with most energy, in deviations of each picture's class, f32[B, count].

    These are what the first tokens are spent on. Which they are depends on the classes and not on the
    picture, so that a dimension means the same in all of them.
    """
    leading = sigmas_Cn.square().mean(0).topk(min(count, sigmas_Cn.shape[1])).indices
    return coefficients_Bn[:, leading] / sigmas_Cn[class_B][:, leading]


def layer_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and weight of every convolution and linear layer."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module.weight


def spectral_norm(weight: Tensor, iterations: int) -> Tensor:
    """Largest singular value of a weight [out, ...] read as a matrix [out, rest], by power iteration.

    A convolution's matrix is that of Miyato et al. 2018 (arXiv 1802.05957): exact where patches do not
    overlap, at most sqrt(kernel area) below the norm of the whole map where they do.
    Each call starts at the longest row, so nothing has to be kept between steps or in a checkpoint. As
    in both papers the vectors count as constants in the gradient, which is then exact at convergence.
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = weight.flatten(1).float()
        with torch.no_grad():
            right = F.normalize(matrix[matrix.square().sum(1).argmax()], dim=0)
            left = F.normalize(matrix @ right, dim=0)
            for _ in range(iterations - 1):
                right = F.normalize(left @ matrix, dim=0)
                left = F.normalize(matrix @ right, dim=0)
        return left @ matrix @ right
