"""Measured curves: what the decoder really does with each prefix of many pictures. Knows no head.

Everything runs through ONNX Runtime: what is measured is what ships, and a CPU does it three times as fast.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.halting import head_lengths, linear_psnr_db
from tokenizer.halting_features import block_features, picture_features
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import from_model_output, to_model_input
from tokenizer.quality import psnr_db
from tokenizer.spectral import block_size, dct_basis
from tokenizer.stream_codec import Stream, StreamCodec
from tokenizer.wavelet import pyramid
from training.coded import code_picture
from training.data import PictureSet

BATCH_SIZE = 8
Prefix = tuple[np.ndarray, float, int]
"""Conditional means f32[3, bh, bw], expected squared error, length."""


@dataclass(frozen=True)
class Codec:
    """What turns pictures into tokens and back: two graphs and the layout between them."""

    layout: StreamCodec
    encoder: OnnxSession
    decoder: OnnxSession


@dataclass(frozen=True)
class Curves:
    """Measured curves. Shapes: P pictures, L candidate lengths, S features, N blocks, K numbers of each."""

    linear_psnr_db: Tensor
    features: Tensor
    blocks: Tensor
    true_psnr_db: Tensor
    """NaN at lengths that were not decoded."""

    def __len__(self) -> int:
        return len(self.true_psnr_db)

    def at(self, places: Sequence[int]) -> Curves:
        """The same at some of the lengths."""
        columns = {name: getattr(self, name)[:, list(places)] for name in ("linear_psnr_db", "true_psnr_db")}
        return replace(self, **columns)

    def __add__(self, other: Curves) -> Curves:
        columns = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Curves(*(torch.cat(pair) for pair in columns))


def with_means(lengths: Sequence[int]) -> tuple[int, ...]:
    """Lengths, and the geometric means of neighbours: a curve bends between them, and margins must know."""
    means = (round((a * b) ** 0.5) for a, b in pairwise(lengths))
    return tuple(sorted({*lengths, *means}))


def true_lengths(lengths: Sequence[int]) -> tuple[int, ...]:
    """Where the truth is measured for margins at `lengths`: three more between two of them. With one more,
    what misses a target between them was not seen (docs/log.md)."""
    return with_means(with_means(lengths))


def rate_distortion(lengths: Sequence[int], unseen: Curves) -> dict[str, Any]:
    """Mean PSNR of curves at `lengths`: what the manifest says of a model's quality."""
    return {
        "pictures": len(unseen),
        "tokens": list(lengths),
        "mean_psnr_db": [round(v, 3) for v in unseen.true_psnr_db.mean(0).tolist()],
        "linear_mean_psnr_db": [round(v, 3) for v in unseen.linear_psnr_db.mean(0).tolist()],
    }


def places(lengths: Sequence[int], among: Sequence[int]) -> list[int]:
    """Where some lengths are among others."""
    return [among.index(length) for length in lengths]


def measure_curves(
    codec: Codec,
    pictures: PictureSet,
    canvas: Size,
    lengths: Sequence[int],
    coding: Coding,
    every: int = 1,
) -> Curves:
    """Encode pictures, and decode each at every `every`-th candidate length, in turns.

    Errors at neighbouring lengths are nearly the same, so a decode teaches more on another picture. Pictures
    are measured side by side, one on each processor, so the codec's sessions should keep to one thread.
    """
    scaled = [min(n, codec.layout.max_tokens(canvas)) for n in head_lengths(tuple(lengths), canvas)]
    turns = itertools.cycle(range(every))

    def measure(pixels: np.ndarray, turn: int) -> tuple[np.ndarray, ...]:
        return _measure(codec, pixels, canvas, scaled, coding, range(turn, len(scaled), every))

    rows: list[tuple[np.ndarray, ...]] = []
    at_once = os.cpu_count() or 1
    batches = pictures.centre_batches(BATCH_SIZE * at_once, canvas)
    steps = ceil(len(pictures) / (BATCH_SIZE * at_once))
    with ThreadPoolExecutor(at_once) as threads:
        for batch in track(batches, f"curves of {len(pictures)} pictures, {coding} coding", total=steps):
            rows.extend(threads.map(measure, batch, turns))
    return Curves(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))


def _measure(
    codec: Codec,
    pixels: np.ndarray,
    canvas: Size,
    lengths: list[int],
    coding: Coding,
    decoded: Sequence[int],
) -> tuple[np.ndarray, ...]:
    """One picture's row of every field of `Curves`."""
    out = codec.encoder.run(image=to_model_input([pixels]), **basis_of(canvas))
    coefficients, reference, energy = out["coefficients"][0], out["reference"][0], float(out["energy"][0])
    stream = codec.layout.encode(coefficients, reference, energy, canvas, coding)
    prefixes = _prefixes(codec, stream, coefficients, canvas, coding)
    true_db = np.full(len(lengths), np.nan, np.float32)
    for start in range(0, len(decoded), BATCH_SIZE):
        places = list(decoded[start : start + BATCH_SIZE])
        inputs = decoder_inputs([prefixes(lengths[place]) for place in places], canvas)
        images = from_model_output(codec.decoder.run(**inputs)["image"])
        true_db[places] = [min(psnr_db(pixels, image), 100.0) for image in images]
    features = picture_features(codec.layout.spectral, reference, canvas, pixels, coding)
    return linear_psnr_db(stream.distortion(lengths)), features, block_features(pixels), true_db


def _prefixes(
    codec: Codec, stream: Stream, coefficients: np.ndarray, canvas: Size, coding: Coding
) -> Callable[[int], Prefix]:
    """What a stream's prefixes decode to, by length.

    The range coding's are looked up, as in training: reading each prefix anew would take most of the time.
    """
    if coding is Coding.RANGE:
        coded, tree = code_picture(codec.layout.range, coefficients, canvas), pyramid(block_size(canvas))

        def look_up(length: int) -> Prefix:
            values, expected = coded.prefix(length, tree.size)
            return tree.inverse(values), expected, length

        return look_up
    return lambda length: (*codec.layout.decode(stream.tokens[:length], canvas, coding), length)


def decoder_inputs(prefixes: Sequence[Prefix], canvas: Size) -> dict[str, np.ndarray]:
    """What the decoder graph is given for prefixes on one canvas."""
    means, expected, lengths = zip(*prefixes, strict=True)
    return {
        "means": np.stack(means),
        "length": np.asarray(lengths, np.float32),
        "expected_mse": np.asarray(expected, np.float32),
        **basis_of(canvas),
    }


def basis_of(canvas: Size) -> dict[str, np.ndarray]:
    """Rows of the DCT, as both graphs are given them."""
    bh, bw = block_size(canvas)
    return {
        "vertical": dct_basis(canvas.height_px, bh),
        "horizontal": dct_basis(canvas.width_px, bw),
    }
