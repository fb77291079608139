"""Adversary: a critic of patches that teaches the flow's one-step endpoints to look real.

Squared error alone teaches each step the mean of what could be, and a short training never gets from means to
texture. The critic sees a picture beside the fidelity picture it came from, and says where it looks real:

    critic    min  softplus(D(endpoint) - D(real))        both with the same tokens and time
    refiner   min  flow + weight * softplus(D(real) - D(endpoint))

Relativistic pairs: Jolicoeur-Martineau 2018, eq. 9 and 10. The critic's slope is bounded by spectral
normalisation (Miyato et al. 2018). `weight` is a Lagrange multiplier: it rises until an endpoint costs
`psnr_loss_db` of the fidelity picture's PSNR, so that realism has a price that is chosen, not found. The
first step and the states of a walk have each their own: the same word moves them differently far.

Shapes: B pictures, H W crop, h w patches. Residuals in units of the expected error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from tokenizer.canvas import DEFAULT_AREA_PX
from tokenizer.model.adaptive_tokenizer import PIXEL_SCALE
from tokenizer.model.layers import log2_features
from training.flow import Flow
from training.frozen_tokenizer import Decoded
from training.precision import autocast

# At full speed the weight doubles in 23 steps. At a third of it, the price of walks, begun at 1.1 dB,
# was still 1.0 after 250 steps.
# A price that cannot be reached must not let the critic run away.
MAX_WEIGHT = 100.0
WEIGHT_RATE = 0.03
# The price is read off a quarter of each batch, so it is smoothed over some 50 batches.
PRICE_DECAY = 0.98
LEAK = 0.2
# Straight to a real picture, or where the refiner went by itself.
WAYS = ("straight", "walk")


@dataclass(frozen=True)
class AdversaryConfig:
    """When the critic comes in, and what it may cost."""

    psnr_loss_db: float = 0.0
    """PSNR that an endpoint may lose against fidelity, where nothing of the real picture was in the state:
    from t = 0 and on walks. Of errors summed over pictures; the mean of the pictures' losses is larger.
    0 = no critic."""
    from_step: int = 0
    """First step with the critic: before, the flow learns what squared error can teach."""
    widths: tuple[int, int, int] = (48, 96, 128)
    learning_rate: float = 4e-4
    first_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.psnr_loss_db < 0 or self.from_step < 0:
            raise ValueError(
                f"psnr_loss_db and from_step must be at least 0, got {self.psnr_loss_db} and {self.from_step}"
            )
        if min(self.first_weight, self.learning_rate) <= 0:
            raise ValueError(
                f"first_weight and learning_rate must be above 0, "
                f"got {self.first_weight} and {self.learning_rate}"
            )


class Critic(nn.Module):
    """Residual, fidelity picture and conditions -> how real each patch looks, on grids of H/4 and H/8."""

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        fine, middle, coarse = widths
        # Unshuffled by two: every pixel counts, at a quarter of the price.
        self.inward = spectral_norm(nn.Conv2d(24, fine, 3, padding=1))
        self.halve = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1))
            for a, b in ((fine, middle), (middle, coarse))
        )
        self.look = nn.ModuleList(spectral_norm(nn.Conv2d(w, w, 3, padding=1)) for w in (middle, coarse))
        self.head = nn.ModuleList(spectral_norm(nn.Conv2d(w, 1, 1)) for w in (middle, coarse))
        self.condition = nn.ModuleList(nn.Linear(3, w) for w in (middle, coarse))

    def forward(self, residual_B3HW: Tensor, batch: Decoded, time_B: Tensor) -> Tensor:
        """One number per patch of both grids, f32[B, hw + hw / 4]."""
        picture = torch.cat((residual_B3HW, batch.fidelity / PIXEL_SCALE - 1), dim=1)
        told = torch.cat(
            (2 * time_B[:, None] - 1, log2_features(equivalent_length(batch), batch.expected_mse)), dim=1
        )
        with parametrize.cached():  # normalised in fp32 once, then used under autocast
            self._normalise()
            with autocast(residual_B3HW.device):
                x = F.leaky_relu(self.inward(F.pixel_unshuffle(picture, 2)), LEAK)
                seen = []
                for halve, look, head, condition in zip(
                    self.halve, self.look, self.head, self.condition, strict=True
                ):
                    x = F.leaky_relu(halve(x) + condition(told)[:, :, None, None], LEAK)
                    x = F.leaky_relu(look(x), LEAK)
                    seen.append(head(x).flatten(1))
        return torch.cat(seen, dim=1).float()

    def _normalise(self) -> None:
        for module in self.modules():
            if parametrize.is_parametrized(module):
                module.weight  # noqa: B018  computing it fills the cache


def equivalent_length(batch: Decoded) -> Tensor:
    """Tokens that a canvas of the default area would have, f32[B]."""
    return batch.length * (DEFAULT_AREA_PX / (batch.image.shape[2] * batch.image.shape[3]))


class Adversary:
    """The critic with its optimizer and the weight of its word."""

    def __init__(self, config: AdversaryConfig, device: torch.device) -> None:
        self.config = config
        self.critic = Critic(config.widths).to(device)
        if device.type == "cpu":
            self.critic.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.critic.parameters(), lr=config.learning_rate, betas=(0.5, 0.99), weight_decay=0.0
        )
        self.weights = dict.fromkeys(WAYS, config.first_weight)
        self.prices_db = dict.fromkeys(WAYS, 0.0)

    def play(self, flow: Flow, batch: Decoded) -> tuple[float, Tensor]:
        """One step of the critic. Returns its loss (log 2 where it tells nothing apart), and what the refiner
        minimises: the weighted loss against the critic as it now is."""
        real, loss = self._learn(flow, batch)
        self.critic.requires_grad_(False)
        # The step that the critic just took hardly moves its word on the real pictures.
        term = F.softplus(real - self.critic(flow.reached, batch, flow.time)).mean()
        self._adjust(flow)
        return loss, self.weights[_way(flow)] * term

    def _learn(self, flow: Flow, batch: Decoded) -> tuple[Tensor, float]:
        self.critic.requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        real = self.critic(flow.end, batch, flow.time)
        loss = F.softplus(self.critic(flow.reached.detach(), batch, flow.time) - real).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.critic.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        return real.detach(), float(loss.detach())

    def _adjust(self, flow: Flow) -> None:
        blind = (flow.time == 0) | flow.walked
        if not blind.any():
            return
        with torch.no_grad():
            reached = (flow.reached - flow.end)[blind].square().mean()
            ratio = float(reached / flow.end[blind].square().mean().clamp_min(1e-6))
        if not math.isfinite(ratio):  # such a step is not taken either
            return
        way, wanted_db = _way(flow), self.config.psnr_loss_db
        self.prices_db[way] += (1 - PRICE_DECAY) * (10 * math.log10(max(ratio, 1e-6)) - self.prices_db[way])
        short = (wanted_db - self.prices_db[way]) / wanted_db
        weight = self.weights[way] * math.exp(WEIGHT_RATE * max(-1.0, min(1.0, short)))
        self.weights[way] = min(weight, MAX_WEIGHT)

    def facts(self) -> dict[str, float]:
        """What to show of a run."""
        return {
            f"{way}_{name}": values[way]
            for way in WAYS
            for name, values in (("weight", self.weights), ("price_db", self.prices_db))
        }

    def state_dict(self) -> dict[str, Any]:
        """All that resuming needs."""
        return {
            "critic": self.critic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "weights": self.weights,
            "prices_db": self.prices_db,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.weights, self.prices_db = dict(state["weights"]), dict(state["prices_db"])


def _way(flow: Flow) -> str:
    return WAYS[flow.walked]
