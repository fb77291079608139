"""Training pictures in range-coded form: coded once, so that any prefix of any picture is an array look-up.

Coding a picture takes longer than a training step has time for it. What each bit changes is kept instead:
which coefficient, from which length on, to which value. Shapes: N pictures, E events, n coefficients.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import ceil
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from tokenizer.answers import encoder
from tokenizer.canvas import Size
from tokenizer.contexts import ContextTables
from tokenizer.embedded import watch
from tokenizer.range_form import OPEN_BITS, RangeLayout, trace
from tokenizer.spectral import SpectralLayout, SpectralTables, block_size, max_tokens
from tokenizer.wavelet import pyramid
from training.linear_codec import coefficients_of

# Four of some 20 planes each.
MOST_PASSES = 128
# Crops that a process is handed at once.
SHARE = 32


@dataclass(frozen=True)
class CodedPicture:
    """One picture's stream as a list of changes."""

    at: NDArray[np.uint16]
    """Coefficient of the pyramid that an event changes, u16[E]."""
    length: NDArray[np.uint16]
    """Shortest length at which it has happened, u16[E], rising."""
    value: NDArray[np.float16]
    """What the coefficient is from then on, f16[E]."""
    pass_length: NDArray[np.uint16]
    """Lengths at which passes begin, rising; `pass_error` f32 is the error expected there."""
    pass_error: NDArray[np.float32]

    def prefix(self, length: int, size: int) -> tuple[NDArray[np.float32], float]:
        """(pyramid f32[n], expected squared error per pixel and colour) of the first `length` tokens."""
        count = int(np.searchsorted(self.length, length, side="right"))
        values = np.zeros(size, np.float32)
        values[self.at[:count]] = self.value[
            :count
        ]  # of several events on one coefficient, the last one counts
        error = np.interp(length, self.pass_length, np.log(self.pass_error))
        return values, float(np.exp(error))


class CodedSet:
    """Coded pictures of one canvas, in the order of the pictures they were made from."""

    def __init__(self, pictures: list[CodedPicture], canvas: Size) -> None:
        self.pictures, self.canvas = pictures, canvas
        self.pyramid = pyramid(block_size(canvas))

    def prefixes(
        self, picks: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(DCT coefficients f32[B, 3, bh, bw], expected error f32[B]) of prefixes of some pictures."""
        rows = [
            self.pictures[pick].prefix(int(length), self.pyramid.size)
            for pick, length in zip(picks, lengths, strict=True)
        ]
        means = np.stack([self.pyramid.inverse(values) for values, _ in rows])
        return means, np.asarray([error for _, error in rows], np.float32)

    def save(self, path: Path) -> None:
        """Write all pictures into one file, atomically."""
        columns = {
            name: np.concatenate([getattr(p, name) for p in self.pictures])
            for name in CodedPicture.__dataclass_fields__
        }
        counts = {
            "events": np.asarray([len(p.at) for p in self.pictures]),
            "passes": np.asarray([len(p.pass_length) for p in self.pictures]),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp.npz")
        np.savez(beside, **columns, **counts)
        os.replace(beside, path)

    @classmethod
    def load(cls, path: Path, canvas: Size) -> CodedSet:
        """Inverse of `save`."""
        with np.load(path) as data:
            events, passes = np.cumsum(data["events"])[:-1], np.cumsum(data["passes"])[:-1]
            columns = [
                np.split(data[name], passes if name.startswith("pass_") else events)
                for name in CodedPicture.__dataclass_fields__
            ]
        return cls([CodedPicture(*row) for row in zip(*columns, strict=True)], canvas)


def code_pictures(
    crops: list[np.ndarray],
    tables: SpectralTables,
    contexts: ContextTables,
    canvas: Size,
    workers: int | None = None,
) -> CodedSet:
    """Code uint8[H, W, 3] crops of the canvas's size, on all cores; a few are coded here."""
    arguments = (tables, contexts, canvas)
    count = min(workers or os.cpu_count() or 1, ceil(len(crops) / SHARE))
    if count == 1:  # a fresh process takes seconds to import what it needs
        _start_worker(*arguments)
        return CodedSet([_code(crop) for crop in track(crops, "coding pictures")], canvas)
    # Forked children of a process with torch's threads may hang; fresh ones do not.
    with ProcessPoolExecutor(count, get_context("spawn"), _start_worker, arguments) as pool:
        coded = track(pool.map(_code, crops, chunksize=SHARE), "coding pictures", total=len(crops))
        return CodedSet(list(coded), canvas)


_worker: tuple[RangeLayout, SpectralTables, Size] | None = None


def _start_worker(tables: SpectralTables, contexts: ContextTables, canvas: Size) -> None:
    global _worker
    _worker = (RangeLayout(SpectralLayout(tables), contexts), tables, canvas)


def _code(crop: np.ndarray) -> CodedPicture:
    assert _worker is not None  # the pool's initializer ran
    layout, tables, canvas = _worker
    return code_picture(layout, coefficients_of(crop, tables, canvas), canvas)


def code_picture(layout: RangeLayout, coefficients: np.ndarray, canvas: Size) -> CodedPicture:
    """The changes that each bit of a stream brings, from DCT coefficients f32[3, bh, bw]."""
    class_id = layout.spectral.choose_class(coefficients, canvas)
    values = pyramid(block_size(canvas)).forward(coefficients)
    limit = max_tokens(canvas, layout.spectral.tables.num_planes)
    oracle = encoder(values, values, limit - 1, layout.tables.fraction)
    seen = watch(num_passes=MOST_PASSES)
    layout.scan(layout.state(class_id, canvas), oracle, seen)
    changes, passes = trace(oracle), slice(int(seen.num_passes[0]))
    length = 1 + np.ceil((changes.bits + OPEN_BITS) / 8)
    kept = length <= limit
    return CodedPicture(
        changes.at[kept].astype(np.uint16),
        length[kept].astype(np.uint16),
        changes.value[kept].astype(np.float16),
        np.minimum(1 + seen.pass_bits[passes] // 8, 2**16 - 1).astype(np.uint16),
        (seen.pass_error[passes] / 3).astype(np.float32),
    )
