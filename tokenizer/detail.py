"""What realism shows of a walk: fine grey detail, less of it in calm places, more of it where much is lost.

    d = luma(walk) - blur(luma(walk))     the tokens decide the coarse part and the colours
    m = s^2 / (s^2 + (contrast r)^2)      s: slope of the fidelity picture around a place
    shown = d m (r / 22)^power            r: deviation of the error that the model expects

Why each of them is there: docs/decisions/0005-realism.md. One picture at a time, so that none depends on
its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import ArtifactError

Floats = NDArray[np.float32]
# ITU-R BT.601.
_LUMA = np.asarray([0.299, 0.587, 0.114], np.float32)
# A place is as textured as the slopes in this square around it.
PLACE_PX = 17
# The expected deviation at which the gain is the one in the manifest: near that of 300 tokens.
TYPICAL_DEVIATION = 22.0


@dataclass(frozen=True, slots=True)
class DetailFacts:
    """Which part of its walks a refiner shows. Refuses nonsense with ArtifactError."""

    side_px: int
    """Box whose mean, taken twice, is left to the fidelity picture. Odd."""
    contrast: float
    """Slope / expected deviation at which a place gets half of the detail."""
    power: float
    """The gain grows with the expected deviation to this power."""

    def __post_init__(self) -> None:
        side = self.side_px
        if type(side) is not int or side not in range(3, PLACE_PX + 1, 2):
            raise _refused("side_px", f"odd and 3..{PLACE_PX}", side)
        for name, most in (("contrast", 1), ("power", 2)):
            value = getattr(self, name)
            if not isinstance(value, float) or not 0 < value <= most:
                raise _refused(name, f"above 0 and at most {most}", value)

    @classmethod
    def from_manifest(cls, facts: Any) -> DetailFacts | None:
        """What stands under `detail`; None, which shows whole walks, for refiners made without."""
        if facts is None:
            return None
        try:
            return cls(**facts)
        except TypeError as error:
            raise ArtifactError(f"manifest.json: detail of the refiner cannot be {facts!r}") from error


def _refused(name: str, allowed: str, value: object) -> ArtifactError:
    return ArtifactError(f"manifest.json: {name} of the refiner's detail must be {allowed}, got {value!r}")


def shown_detail(walk: Floats, fidelity: Floats, deviation: float, facts: DetailFacts) -> Floats:
    """What a walk added and the picture it began at, f32[3, H, W] -> what is shown of it, f32[1, H, W].

    The same for all three colours. `deviation` is that of the expected error.
    """
    luma = _luma(walk)
    detail = luma - box_mean(box_mean(luma, facts.side_px), facts.side_px)
    detail *= textured(_luma(fidelity), facts.contrast * deviation)
    detail *= np.float32((deviation / TYPICAL_DEVIATION) ** facts.power)
    return detail[None]


def textured(luma: Floats, half_slope: float) -> Floats:
    """How textured each place of a picture is, f32[H, W] in 0..1; 1/2 where the slope around it is this."""
    squares = np.square(np.diff(luma, axis=0, append=luma[-1:]))
    squares += np.square(np.diff(luma, axis=1, append=luma[:, -1:]))
    # A difference of running sums can end a little below 0.
    slope: Floats = np.maximum(box_mean(squares, PLACE_PX), np.float32(0))
    return np.asarray(slope / (slope + np.float32(half_slope**2)), np.float32)


def box_mean(values: Floats, side_px: int) -> Floats:
    """Mean of the square around each place, f32[H, W], borders mirrored. Cost does not grow with the side."""
    padded = np.pad(values, side_px // 2, mode="reflect")
    sums = np.zeros((padded.shape[0] + 1, padded.shape[1] + 1))
    # Single precision would lose the difference of two large sums.
    np.cumsum(padded, axis=0, dtype=np.float64, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    rows = sums[side_px:] - sums[:-side_px]
    boxes = rows[:, side_px:] - rows[:, :-side_px]
    means: Floats = (boxes / side_px**2).astype(np.float32)
    return means


def _luma(picture: Floats) -> Floats:
    luma: Floats = np.tensordot(_LUMA, picture, axes=1)
    return luma
