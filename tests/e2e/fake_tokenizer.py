"""A tokenizer that needs no model: the tokens are a thumbnail, coarse to fine. For tests of serving only."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from tokenizer.canvas import Size, choose_canvas
from tokenizer.coding import DEFAULT_CODING, Coding
from tokenizer.distortion import DistortionCurve
from tokenizer.providers import ProviderFallback
from tokenizer.sequence import TokenSequence

GRID = 8


@dataclass
class FakeTokenizer:
    """Tokens are the grey values of an 8x8 thumbnail, repeated; decoding shows the mean.

    In range coding the values are inverted, and the stream has three quarters of the tokens: taken for
    fixed, it shows the negative.

    `gate` makes it slow on command: cleared, every call waits until it is set. `calls` records the batches.
    """

    name: str = "fake"
    version: str = "1"
    fingerprint: str = "0011aabb"
    digest: str = "ab" * 32
    gate: threading.Event = field(default_factory=threading.Event)
    calls: list[tuple[str, int]] = field(default_factory=list)
    has_realism: bool = False
    codings: tuple[Coding, ...] = (Coding.RANGE, Coding.FIXED)
    canvas_area_px: int = 65_536
    provider_fallback: ProviderFallback | None = None
    poison: int | None = None
    """A picture whose first value is this breaks the model."""

    def __post_init__(self) -> None:
        self.gate.set()

    def max_tokens(self, canvas: Size) -> int:
        return canvas.area_px // 32

    def encode(self, images, budget=None, *, coding=DEFAULT_CODING, canvas_area_px=65_536):
        self._enter("encode", len(images))
        if any(self.poison is not None and image[0, 0, 0] == self.poison for image in images):
            raise RuntimeError("secret path /srv/model/weights.bin is broken")
        return [self._encode(image, coding, canvas_area_px) for image in images]

    def decode(self, sequences, *, max_pixels=50_000_000, realism=0.0, steps=4, seed=0):
        """Realism, steps and seed show as brightness, so that a test sees which arrived."""
        self._enter("decode", len(sequences))
        brighter = round(100 * realism) + 10 * steps + seed if realism else 0
        return [self._decode(sequence) + np.uint8(brighter) for sequence in sequences]

    def _enter(self, op: str, count: int) -> None:
        self.calls.append((op, count))
        assert self.gate.wait(timeout=20), "a test forgot to open the gate"

    def _encode(self, image: np.ndarray, coding: Coding, canvas_area_px: int) -> TokenSequence:
        source = Size(image.shape[1], image.shape[0])
        canvas = choose_canvas(source, canvas_area_px)
        is_range = coding is Coding.RANGE
        count = self.max_tokens(canvas) * (3 if is_range else 4) // 4
        small = np.asarray(Image.fromarray(image).convert("L").resize((GRID, GRID))).reshape(-1)
        tokens = np.resize(255 - small if is_range else small, count).astype(np.uint8).tobytes()
        curve = DistortionCurve((1, count), (15.0, 30.0), {0.9: (0.5, 0.5)})
        return TokenSequence(tokens, source, self.fingerprint, canvas, curve, coding)

    def _decode(self, sequence: TokenSequence) -> np.ndarray:
        mean = int(np.mean(sequence.token_ids)) if sequence.length else 128
        if sequence.coding is Coding.RANGE:
            mean = 255 - mean
        return np.full((sequence.source.height_px, sequence.source.width_px, 3), mean, np.uint8)
