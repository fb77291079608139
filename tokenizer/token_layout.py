"""What tokens mean, behind one interface: graph outputs -> tokens and curve, tokens -> graph inputs.

TokenLayout         what ImageTokenizer asks of either layout
├── SpectralTokens  bits of coefficients, in two codings
└── RegisterTokens  ids of learned queries (tokenizer/register_tokens.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tokenizer.artifact import ModelArtifact
from tokenizer.canvas import DEFAULT_AREA_PX, Size
from tokenizer.coding import DEFAULT_CODING, Coding
from tokenizer.distortion import DistortionCurve
from tokenizer.halting import CurvePredictor
from tokenizer.onnx_session import OnnxSession
from tokenizer.register_tokens import RegisterTokens
from tokenizer.registers import RegisterTables
from tokenizer.sequence import TokenSequence
from tokenizer.spectral import block_size, dct_basis
from tokenizer.stream_codec import StreamCodec

Arrays = dict[str, NDArray[Any]]
"""Inputs or outputs of a graph, by name."""


class TokenLayout(Protocol):
    """Thread-safe."""

    @property
    def codings(self) -> tuple[Coding, ...]:
        """What its tokens can be, the default first."""

    @property
    def canvas_area_px(self) -> int:
        """Area of the canvas that a picture is encoded at, where nobody asks for another."""

    def max_tokens(self, canvas: Size) -> int:
        """Tokens of a whole stream."""

    def canvas_inputs(self, canvas: Size) -> Arrays:
        """What the encoder graph is given besides the image."""

    def tokenize(
        self, out: Arrays, canvas: Size, coding: Coding, pixels: NDArray[np.uint8], resample_mse: float
    ) -> tuple[bytes, DistortionCurve]:
        """One picture's tokens and curve from the encoder's outputs and its `pixels` on the canvas."""

    def decoder_inputs(self, sequences: Sequence[TokenSequence], canvas: Size) -> Arrays:
        """What the decoder graph is given for sequences of one canvas."""


class SpectralTokens:
    """The spectral layout: DCT coefficients in greedy order, in the fixed or the range coding."""

    codings = (DEFAULT_CODING, *(coding for coding in Coding if coding is not DEFAULT_CODING))
    canvas_area_px = DEFAULT_AREA_PX

    def __init__(self, codec: StreamCodec, curves: CurvePredictor) -> None:
        self.codec, self.curves = codec, curves

    def max_tokens(self, canvas: Size) -> int:
        """See TokenLayout."""
        return self.codec.max_tokens(canvas)

    def canvas_inputs(self, canvas: Size) -> Arrays:
        """Rows of the DCT."""
        bh, bw = block_size(canvas)
        return {
            "vertical": dct_basis(canvas.height_px, bh),
            "horizontal": dct_basis(canvas.width_px, bw),
        }

    def tokenize(
        self, out: Arrays, canvas: Size, coding: Coding, pixels: NDArray[np.uint8], resample_mse: float
    ) -> tuple[bytes, DistortionCurve]:
        """See TokenLayout."""
        coefficients, reference = out["coefficients"], out["reference"]
        stream = self.codec.encode(coefficients, reference, float(out["energy"]), canvas, coding)
        return stream.tokens, self.curves.predict(stream, coding, reference, canvas, pixels, resample_mse)

    def decoder_inputs(self, sequences: Sequence[TokenSequence], canvas: Size) -> Arrays:
        """See TokenLayout."""
        decoded = [self.codec.decode(s.tokens, canvas, s.coding) for s in sequences]
        return {
            "means": np.stack([means for means, _ in decoded]),
            "length": np.asarray([s.length for s in sequences], np.float32),
            "expected_mse": np.asarray([expected for _, expected in decoded], np.float32),
            **self.canvas_inputs(canvas),
        }


def open_layout(artifact: ModelArtifact, halting: OnnxSession) -> TokenLayout:
    """The layout that a model's config names."""
    if isinstance(artifact.layout_tables, RegisterTables):
        return RegisterTokens(artifact.layout_tables, halting, artifact.config)
    codec = StreamCodec(artifact.tables, artifact.contexts)
    return SpectralTokens(codec, CurvePredictor(halting, codec.spectral, artifact.config))
