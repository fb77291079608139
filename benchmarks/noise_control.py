"""What a refiner must beat: grain laid over the fidelity picture, as strong as costs the same PSNR.

    control = fidelity + share * r * grain      r: deviation of the error that the model itself expects

Any roughness makes smooth pictures more like originals to a measure that knows no places. Only what a
refiner wins beyond this control is more than grain. The grain is grey Gaussian noise, blurred once: of no
blur, one and three that lowers the texture distance most, and colour makes no difference (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import Picture, Pixels
from benchmarks.scores import capped_psnr_db
from benchmarks.sliced_wasserstein import blur
from tokenizer import TokenSequence

# Halvings of the searched shares: to 0.001 of r, below 0.01 dB.
_HALVINGS = 11
# At twice the expected error five times the squared error is left: 7 dB, far beyond any refiner.
_MAX_SHARE = 2.0
Floats = NDArray[np.float32]


def expected_deviation(sequence: TokenSequence) -> float:
    """Root of the squared error that the halting head predicts for this prefix, in grey levels."""
    assert sequence.predicted_psnr_db is not None  # it was encoded here
    return float(255 * 10 ** (-sequence.predicted_psnr_db / 20))


def grain(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Blurred Gaussian noise of deviation 1, equal in all colours, f32[H, W, 1]."""
    noise = blur(rng.standard_normal((*shape[:2], 1)).astype(np.float32))
    scaled: Floats = noise / noise.std()
    return scaled


class NoiseControl:
    """Fidelity decodes of some pictures, and the same with grain."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        fidelity: Sequence[Pixels],
        deviations: Sequence[float],
        seed: int,
    ) -> None:
        self._pictures, self._fidelity = pictures, fidelity
        self._noise = [
            np.float32(deviation) * grain(pixels.shape, np.random.default_rng((seed, number)))
            for number, (pixels, deviation) in enumerate(zip(fidelity, deviations, strict=True))
        ]

    def with_share(self, share: float) -> list[Pixels]:
        """Pictures with this share of the grain; 0 = fidelity."""
        return [
            np.clip(np.rint(pixels + np.float32(share) * noise), 0, 255).astype(np.uint8)
            for pixels, noise in zip(self._fidelity, self._noise, strict=True)
        ]

    def at_psnr(self, psnr_db: float) -> list[Pixels]:
        """Pictures with as much grain as brings their mean PSNR down to this; fidelity if it is not below."""
        low, high = 0.0, _MAX_SHARE
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._psnr_db(middle) > psnr_db else (low, middle)
        return self.with_share(low)

    def _psnr_db(self, share: float) -> float:
        noisy = self.with_share(share)
        pairs = zip(self._pictures, noisy, strict=True)
        return float(np.mean([capped_psnr_db(picture.pixels, pixels) for picture, pixels in pairs]))
