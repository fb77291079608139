"""The distortion curve of one picture: exact linear error, plus what the head says the decoder adds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import DEFAULT_AREA_PX, Size
from tokenizer.coding import Coding
from tokenizer.config import TokenizerConfig
from tokenizer.distortion import DistortionCurve
from tokenizer.halting_features import block_features, picture_features
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import resize
from tokenizer.spectral import SpectralLayout
from tokenizer.stream_codec import Stream

# Detail finer than this many pixels is not counted when a source is far larger than its canvas:
# it holds little energy, and comparing at full size would cost more than encoding.
MAX_COMPARED_AREA_PX = 2_000_000
MAX_DB = 100.0


def linear_psnr_db(mse: NDArray[np.float64]) -> NDArray[np.float32]:
    """PSNR of 8-bit pictures, at most 100 dB."""
    psnr: NDArray[np.float32] = np.minimum(10 * np.log10(255.0**2 / mse), MAX_DB).astype(np.float32)
    return psnr


def head_lengths(candidate_lengths: tuple[int, ...], canvas: Size) -> list[int]:
    """Candidate lengths of a canvas: the same bits per pixel as on 256 x 256, at least one token."""
    return [max(1, round(length * canvas.area_px / DEFAULT_AREA_PX)) for length in candidate_lengths]


class CurvePredictor:
    """Predicts the PSNR of every length against the source, in one pass and without decoding."""

    def __init__(self, head: OnnxSession, layout: SpectralLayout, config: TokenizerConfig) -> None:
        self._head, self._layout, self._config = head, layout, config

    def predict(
        self,
        stream: Stream,
        coding: Coding,
        reference: NDArray[np.float32],
        canvas: Size,
        pixels: NDArray[np.uint8],
        resample_mse: float,
    ) -> DistortionCurve:
        """Curve of one picture's stream, from its `pixels` on the canvas and their coefficients.

        `resample_mse` is what the canvas itself loses against the source.
        """
        available = self._layout.max_tokens(canvas)
        learned = head_lengths(self._config.candidate_lengths, canvas)
        beyond = _doubling(learned[-1], available)
        lengths = [min(length, available) for length in learned] + beyond
        linear = linear_psnr_db(stream.distortion(lengths))
        out = self._head.run(
            linear_psnr_db=linear[None, : len(learned)],
            features=picture_features(self._layout, reference, canvas, pixels, coding)[None],
            blocks=block_features(pixels)[None],
        )
        # Beyond what training saw the decoder's correction fades, and the linear curve is the truth.
        psnr = np.concatenate((out["psnr_db"][0], linear[len(learned) :])).astype(np.float64)
        spread = np.pad(out["spread_db"][0], (0, len(beyond)), mode="edge")
        bounds = {coverage: psnr - spread * s for coverage, s in self._config.scores(coding).items()}
        return curve_against_source(lengths, psnr, bounds, resample_mse)


def curve_against_source(
    lengths: list[int],
    psnr: NDArray[np.float64],
    bounds: dict[float, NDArray[np.float64]],
    resample_mse: float,
) -> DistortionCurve:
    """The curve of a picture from predicted PSNR on its canvas in dB, and its lower bound per coverage."""
    return _curve(
        lengths,
        _resampled(psnr, resample_mse),
        {coverage: _resampled(bound, resample_mse) for coverage, bound in bounds.items()},
    )


def _resampled(psnr_db: NDArray[np.float64], resample_mse: float) -> NDArray[np.float64]:
    """PSNR against the source, never falling: what the canvas loses is known, and narrows every margin."""
    total: NDArray[np.float64] = -10 * np.log10(10 ** (-psnr_db / 10) + resample_mse / 255.0**2)
    return np.maximum.accumulate(total)


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


def _curve(
    lengths: list[int], psnr_db: NDArray[np.float64], bounds_db: dict[float, NDArray[np.float64]]
) -> DistortionCurve:
    """One value per length: tiny canvases repeat lengths, and the last one counts."""
    last = [i for i, length in enumerate(lengths) if length not in lengths[i + 1 :]]
    margins = {coverage: tuple((psnr_db - bound)[last].tolist()) for coverage, bound in bounds_db.items()}
    return DistortionCurve(tuple(lengths[i] for i in last), tuple(psnr_db[last].tolist()), margins)
