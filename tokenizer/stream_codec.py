"""StreamCodec: coefficients <-> tokens of either coding, for one set of tables. Knows no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.contexts import ContextTables
from tokenizer.range_form import RangeLayout
from tokenizer.spectral import SpectralLayout, SpectralTables


@dataclass(frozen=True, slots=True)
class Stream:
    """All tokens of a picture, and what is known of its prefixes."""

    tokens: bytes
    distortion: Callable[[Sequence[int]], NDArray[np.float64]]
    """Squared error per pixel and colour of the linear decode at some lengths (Parseval)."""


class StreamCodec:
    """Both codings over one analysis of the picture. Thread-safe: what it caches never changes."""

    def __init__(self, tables: SpectralTables, contexts: ContextTables) -> None:
        self.spectral = SpectralLayout(tables)
        self.range = RangeLayout(self.spectral, contexts)

    def max_tokens(self, canvas: Size) -> int:
        """Tokens of a whole stream on this canvas, in either coding."""
        return self.spectral.max_tokens(canvas)

    def encode(
        self,
        coefficients: NDArray[np.float32],
        reference: NDArray[np.float32],
        energy: float,
        canvas: Size,
        coding: Coding,
    ) -> Stream:
        """The whole stream of coefficients f32[3, bh, bw].

        Errors count against `reference`, the coefficients of the picture itself, and `energy`, its mean
        squared distance from the mean colour, summed over colours.
        """
        class_id = self.spectral.choose_class(coefficients, canvas)
        if coding is Coding.RANGE:
            limit = self.max_tokens(canvas)
            coded = self.range.encode(coefficients, reference, class_id, canvas, limit)
            return Stream(coded.tokens, lambda lengths: coded.distortion(energy, lengths))
        cells = self.spectral.cells(coefficients, class_id, canvas)
        return Stream(
            self.spectral.tokens(cells, class_id, canvas),
            lambda lengths: self.spectral.distortion(cells, reference, energy, class_id, canvas, lengths),
        )

    def decode(self, tokens: bytes, canvas: Size, coding: Coding) -> tuple[NDArray[np.float32], float]:
        """(conditional means f32[3, bh, bw], expected squared error per pixel and colour) of any prefix."""
        if coding is Coding.RANGE:
            return self.range.decode(tokens, canvas)
        return self.spectral.decode(tokens, canvas), self.spectral.expected_mse(tokens, canvas)
