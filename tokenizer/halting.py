"""The distortion curve of one picture: exact linear error, plus what the head says the decoder adds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import DEFAULT_AREA_PX, Size
from tokenizer.config import TokenizerConfig
from tokenizer.distortion import DistortionCurve, margin_growth
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import resize
from tokenizer.spectral import SpectralLayout

# Detail finer than this many pixels is not counted when a source is far larger than its canvas:
# it holds little energy, and comparing at full size would cost more than encoding.
MAX_COMPARED_AREA_PX = 2_000_000
MAX_DB = 100.0
LUMA = np.asarray((0.299, 0.587, 0.114), np.float32)  # BT.601


def linear_psnr_db(mse: NDArray[np.float64]) -> NDArray[np.float32]:
    """PSNR of 8-bit pictures, at most 100 dB."""
    psnr: NDArray[np.float32] = np.minimum(10 * np.log10(255.0**2 / mse), MAX_DB).astype(np.float32)
    return psnr


def head_lengths(candidate_lengths: tuple[int, ...], canvas: Size) -> list[int]:
    """Candidate lengths of a canvas: the same bits per pixel as on 256 x 256, at least one token."""
    return [max(1, round(length * canvas.area_px / DEFAULT_AREA_PX)) for length in candidate_lengths]


def log_band_energy(
    layout: SpectralLayout, reference: NDArray[np.float32], canvas: Size
) -> NDArray[np.float32]:
    """log2 energy by colour plane and ring of frequencies, f32[3 * J]: the head's view of a picture."""
    energy = layout.band_energy(reference, canvas)
    knots = energy.shape[1]
    ring = np.maximum(*np.indices((knots, knots)))
    rings = [np.bincount(ring.reshape(-1), plane.reshape(-1), knots) for plane in energy]
    flat: NDArray[np.float32] = np.log2(np.stack(rings).reshape(-1) + 1e-4).astype(np.float32)
    return flat


def log_structure(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How unevenly detail is spread, f32[12]: for four scales, three means of the squared luma gradient.

    A spectrum cannot tell edges from noise of the same power, and the decoder network gains on edges.
    Where detail is sparse, the mean of logarithms lies far below the logarithm of the mean.
    """
    luma = pixels.astype(np.float32) @ LUMA
    features: list[float] = []
    for _ in range(4):
        corner = luma[:-1, :-1]
        energy = np.square(luma[1:, :-1] - corner) + np.square(luma[:-1, 1:] - corner)
        features += [
            float(np.log2(energy.mean() + 1.0)),
            float(2 * np.log2(np.sqrt(energy).mean() + 1.0)),
            float(np.log2(energy + 1.0).mean()),
        ]
        luma = luma.reshape(luma.shape[0] // 2, 2, luma.shape[1] // 2, 2).mean((1, 3))
    return np.asarray(features, np.float32)


def head_features(
    layout: SpectralLayout, reference: NDArray[np.float32], canvas: Size, pixels: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """What the head is told of a picture besides its linear curve, f32[S]."""
    return np.concatenate((log_band_energy(layout, reference, canvas), log_structure(pixels)))


class CurvePredictor:
    """Predicts the PSNR of every length against the source, in one pass and without decoding."""

    def __init__(self, head: OnnxSession, layout: SpectralLayout, config: TokenizerConfig) -> None:
        self._head, self._layout, self._config = head, layout, config

    def predict(
        self,
        cells: NDArray[np.int64],
        reference: NDArray[np.float32],
        energy: float,
        class_id: int,
        canvas: Size,
        pixels: NDArray[np.uint8],
        resample_mse: float,
    ) -> DistortionCurve:
        """Curve of one picture from its `pixels` on the canvas.

        `resample_mse` is what the canvas itself loses against the source.
        """
        available = self._layout.max_tokens(canvas)
        learned = head_lengths(self._config.candidate_lengths, canvas)
        beyond = _doubling(learned[-1], available)
        lengths = [min(length, available) for length in learned] + beyond
        mse = self._layout.distortion(cells, reference, energy, class_id, canvas, lengths)
        linear = linear_psnr_db(mse)
        predicted = self._head.run(
            linear_psnr_db=linear[None, : len(learned)],
            features=head_features(self._layout, reference, canvas, pixels)[None],
        )["psnr_db"][0]
        # Beyond what training saw the decoder's correction fades, and the linear curve is the truth.
        psnr = np.concatenate((predicted, linear[len(learned) :])).astype(np.float64)
        total = -10 * np.log10(10 ** (-psnr / 10) + resample_mse / 255.0**2)
        return _curve(lengths, total, self._margins(learned[-1]))

    def _margins(self, longest_learned: int) -> dict[float, float]:
        """Margins of this canvas: they grow to full where training's longest prefix lies on it."""
        growth = margin_growth(longest_learned)
        return {coverage: margin / growth for coverage, margin in self._config.margins.items()}


def resample_mse(source: NDArray[np.uint8], fitted: NDArray[np.uint8]) -> float:
    """Squared error per pixel and colour of the canvas, enlarged again, against the source."""
    if source.shape == fitted.shape:
        return 0.0
    area = source.shape[0] * source.shape[1]
    if area > MAX_COMPARED_AREA_PX:
        scale = (MAX_COMPARED_AREA_PX / area) ** 0.5
        source = resize(
            source, Size(max(1, round(source.shape[1] * scale)), max(1, round(source.shape[0] * scale)))
        )
    again = resize(fitted, Size(source.shape[1], source.shape[0]))
    return float(np.mean(np.square(source.astype(np.float32) - again)))


def _doubling(start: int, end: int) -> list[int]:
    lengths = []
    while start * 2 < end:
        start *= 2
        lengths.append(start)
    return [*lengths, end] if start < end else lengths


def _curve(lengths: list[int], psnr_db: NDArray[np.float64], margins: dict[float, float]) -> DistortionCurve:
    """Never falling, one value per length (tiny canvases repeat lengths: the last one counts)."""
    rising = np.maximum.accumulate(psnr_db)
    best = dict(zip(lengths, rising.tolist(), strict=True))
    return DistortionCurve(tuple(best), tuple(best.values()), margins)
