"""One model in service: load it, warm it up, and what is known about it. Knows no RPCs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from serving.commands import Tokenizer
from serving.config import ServingConfig
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.providers import ProviderFallback
from tokenizer.sequence import TokenSequence

LoadTokenizer = Callable[[str, ServingConfig], Tokenizer]

WARM_UP_SIZE = Size(256, 256)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """What names a model; two streams are compatible only if the fingerprints are equal."""

    name: str
    version: str
    fingerprint: str
    digest: str


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded and warm model."""

    tokenizer: Tokenizer
    ref: ModelRef
    providers: tuple[str, ...]
    """Those that work, not those that were asked for."""
    predicts_quality: bool
    has_realism: bool
    load_s: float
    warmup_s: float
    fallback: ProviderFallback | None = None

    def whole_length(self, sequence: TokenSequence) -> int | None:
        """Length of the whole stream that this one may be a prefix of; None if nobody can tell.

        In fixed coding the canvas decides it. A range-coded stream ends when everything is said, and only
        one of the greatest length is surely whole.
        """
        if sequence.fingerprint != self.ref.fingerprint:
            return None
        most = self.tokenizer.max_tokens(sequence.canvas)
        return most if sequence.coding is Coding.FIXED or sequence.length == most else None


def load_tokenizer(source: str, config: ServingConfig) -> Tokenizer:
    """The model of this name or folder. Raises ArtifactError or ProviderError."""
    return ImageTokenizer.from_pretrained(
        source,
        providers=config.providers,
        num_threads=config.effective_num_threads,
        provider_options=config.provider_options,
    )


def load_and_warm_up(source: str, config: ServingConfig, load: LoadTokenizer) -> ServedModel:
    """A model that has already worked once at each batch size that matters; takes seconds."""
    start = time.monotonic()
    tokenizer = load(source, config)
    loaded = time.monotonic()
    predicts_quality = _warm_up(tokenizer, config.warm_up_batch_sizes)
    fallback = tokenizer.provider_fallback
    return ServedModel(
        tokenizer,
        ModelRef(tokenizer.name, tokenizer.version, tokenizer.fingerprint, tokenizer.digest),
        config.providers if fallback is None else (fallback.actual,),
        predicts_quality,
        tokenizer.has_realism,
        load_s=loaded - start,
        warmup_s=time.monotonic() - loaded,
        fallback=fallback,
    )


def _warm_up(tokenizer: Tokenizer, batch_sizes: tuple[int, ...]) -> bool:
    """Run all ways at these sizes of a batch; True if encoding predicts quality."""
    ramp = np.linspace(0, 255, WARM_UP_SIZE.area_px * 3, dtype=np.uint8)
    picture = ramp.reshape(WARM_UP_SIZE.height_px, WARM_UP_SIZE.width_px, 3)
    sequences = []
    for batch_size, coding in product(batch_sizes, tokenizer.codings):
        pictures = [picture] * batch_size
        sequences = tokenizer.encode(pictures, coding=coding, canvas_area_px=tokenizer.canvas_area_px)
        for realism in (0.0, 1.0) if tokenizer.has_realism else (0.0,):
            tokenizer.decode(sequences, max_pixels=WARM_UP_SIZE.area_px, realism=realism, steps=1, seed=0)
    return sequences[0].curve is not None
