"""Realism: walks from the fidelity picture to one that looks real, in a few Euler steps. Imports no torch.

    y_0 = x_hat + noise_share * r * noise      x_hat: fidelity decode, r: expected error's deviation
    y   = y + (t' - t) v(y, x_hat, t, length)  v: refiner.onnx, t along `time_grid`
    out = x_hat + realism * gain * shown(y_1 - x_hat)

`gain`, the power of the grid and what is shown of a walk (tokenizer/detail.py; all of it where the manifest
says nothing) belong to a refiner, as its start noise does, and stand in the manifest.

The mathematics and its source are in `tokenizer/model/refiner.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.detail import DetailFacts, shown_detail
from tokenizer.errors import ArtifactError, InvalidRealism
from tokenizer.onnx_session import OnnxSession
from tokenizer.providers import DEFAULT_OPTIONS, ProviderOptions

if TYPE_CHECKING:
    from tokenizer.artifact import ModelArtifact

MAX_STEPS = 8
DEFAULT_STEPS = 4
MAX_SEED = 2**64 - 1
TIME_POWER = 2.0
# Squared error below which a prefix counts as exact; keeps the division by r finite.
MIN_EXPECTED_MSE = 1.0


@dataclass(frozen=True, slots=True)
class Realism:
    """How far to walk from fidelity to realism, in how many steps, and with which noise.

    Refuses nonsense with InvalidRealism. Without strength nothing is walked, so steps and seed are forgotten:

    >>> Realism(0.0, steps=8, seed=3) == Realism()
    True
    """

    strength: float = 0.0
    """0 shows the fidelity decode, 1 a picture that could be real."""
    steps: int = DEFAULT_STEPS
    """Passes of the refiner, 1..8."""
    seed: int = 0
    """Other seeds show other pictures with the same tokens."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise InvalidRealism(f"realism must be in 0..1, got {self.strength}")
        if self.steps not in range(1, MAX_STEPS + 1):
            raise InvalidRealism(f"steps must be 1..{MAX_STEPS}, got {self.steps}")
        if not 0 <= self.seed <= MAX_SEED or self.seed % 1:
            raise InvalidRealism(f"seed must be a whole number in 0..{MAX_SEED}, got {self.seed}")
        if self.strength == 0:
            object.__setattr__(self, "steps", DEFAULT_STEPS)
            object.__setattr__(self, "seed", 0)


def warp(fraction: Any, power: float = TIME_POWER) -> Any:
    """Time at a fraction of the steps: dense where the noise still outweighs the detail.

    Early the velocity changes fast (noise becomes detail ten times as strong), late the way is nearly
    straight, and one long step does. For arrays of any library.
    """
    return fraction**power


def time_grid(steps: int, power: float = TIME_POWER) -> NDArray[np.float64]:
    """Times 0 = t_0 < ... < t_steps = 1.

    >>> time_grid(4)
    array([0.    , 0.0625, 0.25  , 0.5625, 1.    ])
    """
    times: NDArray[np.float64] = warp(np.arange(steps + 1) / steps, power)
    return times


@dataclass(frozen=True, slots=True)
class WalkFacts:
    """How the walks of one refiner go: chosen when it was attached, written in the manifest.

    Refuses nonsense with ArtifactError.
    """

    noise_share: float
    """Start noise / expected residual, as in training."""
    time_power: float = TIME_POWER
    """t = (i / steps) ** power; the trained one, or one near it."""
    gain: float = 1.0
    """Share of the way that realism 1 shows. A walk that puts in more detail than a sharp eye wants is mixed
    with the mean, along the line of best trade-offs between error and realism (docs/decisions/0005)."""
    detail: DetailFacts | None = None
    """What is shown of the way; None: all of it."""

    def __post_init__(self) -> None:
        limits = {"noise_share": (0, 1), "time_power": (0, 4), "gain": (0, 2)}
        for name, (above, most) in limits.items():
            value = getattr(self, name)
            if not isinstance(value, float) or not above < value <= most:
                raise ArtifactError(
                    "manifest.json does not say with which noise and times the refiner walks: "
                    f"{name} must be above {above} and at most {most}, got {value!r}"
                )


class RealismDecoder:
    """The flow of one model, ready to run. Thread-safe."""

    def __init__(self, step: OnnxSession, facts: WalkFacts) -> None:
        self._step, self._facts = step, facts

    @classmethod
    def from_artifact(
        cls,
        artifact: ModelArtifact,
        providers: Sequence[str],
        num_threads: int,
        provider_options: ProviderOptions = DEFAULT_OPTIONS,
    ) -> RealismDecoder | None:
        """The refiner of a model, or None if it was made without. Raises ArtifactError, ProviderError."""
        # An artifact brings a compiler; a client that only asks for a Realism should not wait for it.
        from tokenizer.artifact import REFINER

        if REFINER not in artifact.graphs:
            return None
        facts = artifact.manifest.get("refiner")
        if not isinstance(facts, dict) or "noise_share" not in facts:
            raise ArtifactError(f"manifest.json does not say with which noise {REFINER} begins")
        names = {field.name for field in fields(WalkFacts)}
        known = {name: value for name, value in facts.items() if name in names}
        walk = WalkFacts(**known | {"detail": DetailFacts.from_manifest(facts.get("detail"))})
        return cls(OnnxSession(artifact.graphs[REFINER], providers, num_threads, provider_options), walk)

    def refine(
        self,
        fidelity: NDArray[np.float32],
        length: NDArray[np.float32],
        expected_mse: NDArray[np.float32],
        realism: Realism,
    ) -> NDArray[np.float32]:
        """Fidelity decodes f32[B, 3, H, W] in 0..255, not rounded -> the same walked towards realism.

        Every picture of the batch gets the same noise, so that none depends on its neighbours, and
        previews of one stream at growing lengths change no more than they must.
        """
        if realism.strength == 0:
            return fidelity
        deviation = np.sqrt(np.maximum(expected_mse, MIN_EXPECTED_MSE))
        sigma = self._facts.noise_share * deviation
        noise = normal_noise(realism.seed, fidelity.shape[1:])
        state = fidelity + sigma[:, None, None, None].astype(np.float32) * noise
        for now, then in pairwise(time_grid(realism.steps, self._facts.time_power)):
            time = np.full(len(fidelity), now, np.float32)
            out = self._step.run(
                state=state, fidelity=fidelity, time=time, length=length, expected_mse=expected_mse
            )
            state = state + np.float32(then - now) * out["velocity"]
        shown = self._shown(state - fidelity, fidelity, deviation)
        walked: NDArray[np.float32] = fidelity + np.float32(realism.strength * self._facts.gain) * shown
        return walked

    def _shown(
        self, walks: NDArray[np.float32], fidelity: NDArray[np.float32], deviation: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """f32[B, 3, H, W], or one channel for all colours."""
        detail = self._facts.detail
        if detail is None:
            return walks
        each = zip(walks, fidelity, deviation.tolist(), strict=True)
        return np.stack([shown_detail(walk, picture, expected, detail) for walk, picture, expected in each])


def normal_noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal numbers that only seed and shape decide, today and in every later release.

    NumPy keeps the raw words of Philox for ever, but not its normal stream (NEP 19); so Box and Muller
    (1958) stand here.
    """
    count = int(np.prod(shape))
    words = np.random.Philox(key=int(seed)).random_raw(2 * ((count + 1) // 2)).reshape(2, -1)
    # 53 bits each, never 0, whose logarithm is not a number.
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    radius, angle = np.sqrt(-2 * np.log(uniform[0])), 2 * np.pi * uniform[1]
    normal = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
    return normal[:count].astype(np.float32).reshape(shape)
