"""RegisterTokens: the register layout at run time. Knows no torch; which register means what, no one knows.

The curve starts from the mean of many measured ones (`anchor_psnr_db`), which the halting head moves by what
it sees of the picture: there is no exact error of a prefix here, as the spectral layout has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.config import TokenizerConfig
from tokenizer.distortion import DistortionCurve
from tokenizer.halting import curve_against_source
from tokenizer.halting_features import block_features, log_structure
from tokenizer.onnx_session import OnnxSession
from tokenizer.registers import RegisterLayout, RegisterTables
from tokenizer.sequence import TokenSequence

# Variances below this, in squared 8-bit steps, are rounding noise.
MIN_VARIANCE = 0.25


class RegisterTokens:
    """Ids of registers as bytes, one coding, one curve per picture. Thread-safe."""

    codings = (Coding.FIXED,)

    def __init__(self, tables: RegisterTables, head: OnnxSession, config: TokenizerConfig) -> None:
        self.layout, self._head, self._config = RegisterLayout(tables), head, config
        self._anchor = tables.anchor_psnr_db

    @property
    def canvas_area_px(self) -> int:
        """The area that the model was trained at: on others its queries are at a loss."""
        return int(self.layout.tables.canvas_area_px[0])

    def max_tokens(self, canvas: Size) -> int:
        """Tokens of a whole stream, equally many on any canvas."""
        return self.layout.max_tokens

    def canvas_inputs(self, canvas: Size) -> dict[str, NDArray[Any]]:
        """Where the patches lie."""
        return {"positions": self.layout.positions(canvas)}

    def tokenize(
        self,
        out: dict[str, NDArray[Any]],
        canvas: Size,
        coding: Coding,
        pixels: NDArray[np.uint8],
        resample_mse: float,
    ) -> tuple[bytes, DistortionCurve]:
        """One picture's tokens and curve from the encoder's ids and its `pixels` on the canvas."""
        return self.layout.tokens(out["ids"]), self._curve(pixels, resample_mse)

    def decoder_inputs(self, sequences: Sequence[TokenSequence], canvas: Size) -> dict[str, NDArray[Any]]:
        """Ids, 0 where there are none, and how many of them count."""
        ids = np.zeros((len(sequences), self.layout.num_registers), np.int64)
        kept = np.zeros(len(sequences), np.int64)
        for row, sequence in enumerate(sequences):
            known = self.layout.ids(sequence.tokens)
            ids[row, : len(known)], kept[row] = known, len(known)
        return {"ids": ids, "kept": kept, **self.canvas_inputs(canvas)}

    def _curve(self, pixels: NDArray[np.uint8], resample_mse: float) -> DistortionCurve:
        found = self._head.run(
            linear_psnr_db=self._anchor[None],
            features=register_features(pixels)[None],
            blocks=block_features(pixels)[None],
        )
        psnr, spread = found["psnr_db"][0].astype(np.float64), found["spread_db"][0]
        bounds = {coverage: psnr - spread * s for coverage, s in self._config.scores(Coding.FIXED).items()}
        return curve_against_source(list(self._config.candidate_lengths), psnr, bounds, resample_mse)


def register_features(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the halting head is told of a picture, f32[18]: its colours, their variances, its detail."""
    values = pixels.reshape(-1, 3).astype(np.float32)
    colours, variances = values.mean(0) / 64 - 2, np.log2(values.var(0) + MIN_VARIANCE)
    features: NDArray[np.float32] = np.concatenate((colours, variances, log_structure(pixels)))
    return features.astype(np.float32)
