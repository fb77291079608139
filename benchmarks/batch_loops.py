"""What a user would write instead of `tessera batch encode`: loops over tar shards in some processes.

    tokens  Pillow, an ONNX Runtime session of the encoder graph, the codec that turns its output into tokens
    bare    the same, and the session of the halting head: tokens and predicted quality, as the job gives them
    loop    Pillow, `ImageTokenizer.encode`, one picture at a time

All read the same shards, decode and resize the same pictures, and end with one Parquet file per shard of key
and tokens. None knows bad pictures, canvases in one batch, budgets, manifests or resumption.
"""

from __future__ import annotations

import io
import multiprocessing
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
import pyarrow
import pyarrow.parquet
from PIL import Image

from tokenizer import ImageTokenizer
from tokenizer.artifact import ModelArtifact
from tokenizer.canvas import Size, choose_canvas
from tokenizer.coding import Coding
from tokenizer.halting import CurvePredictor, resample_mse
from tokenizer.spectral import block_size, dct_basis
from tokenizer.stream_codec import StreamCodec

Loop = Literal["tokens", "bare", "loop"]
Encode = Callable[[np.ndarray], bytes]


def run_loops(loop: Loop, shards: Sequence[Path], coding: Coding, processes: int, out: Path) -> float:
    """Seconds from the start of the processes to the last file, each shard in any of them."""
    out.mkdir(parents=True)
    started_s = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _become, (loop, coding, out)) as pool:
        pool.map(_shard, shards, chunksize=1)
    return time.perf_counter() - started_s


def _become(loop: Loop, coding: Coding, out: Path) -> None:
    global _encode, _out
    _encode = _library(coding) if loop == "loop" else _bare(coding, has_quality=loop == "bare")
    _out = out


_encode: Encode
_out: Path


def _shard(path: Path) -> None:
    rows = [{"key": key, "token_ids": _encode(pixels)} for key, pixels in _pictures(path)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), _out / f"{path.stem}.parquet")


def _pictures(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with tarfile.open(path) as shard:
        for member in shard:
            content = shard.extractfile(member)
            if content is not None:
                yield member.name, np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB"))


def _library(coding: Coding) -> Encode:
    tokenizer = ImageTokenizer.from_pretrained()
    return lambda pixels: tokenizer.encode([pixels], coding=coding)[0].tokens


def _bare(coding: Coding, *, has_quality: bool) -> Encode:
    artifact = ModelArtifact.load("default")
    codec = StreamCodec(artifact.tables, artifact.contexts)
    curves = CurvePredictor(_Session(artifact.graphs["halting.onnx"]), codec.spectral, artifact.config)
    session = _Session(artifact.graphs["encoder.onnx"])

    def encode(pixels: np.ndarray) -> bytes:
        canvas = choose_canvas(Size(pixels.shape[1], pixels.shape[0]))
        image = Image.fromarray(pixels).resize((canvas.width_px, canvas.height_px), Image.Resampling.LANCZOS)
        fitted = np.asarray(image)
        high, wide = block_size(canvas)
        out = session.run(
            image=np.ascontiguousarray(fitted.transpose(2, 0, 1)[None], np.float32),
            vertical=dct_basis(canvas.height_px, high),
            horizontal=dct_basis(canvas.width_px, wide),
        )
        coefficients, reference = out["coefficients"][0], out["reference"][0]
        stream = codec.encode(coefficients, reference, float(out["energy"][0]), canvas, coding)
        if has_quality:
            lost = resample_mse(pixels, fitted)
            curves.predict(stream, coding, reference, canvas, fitted, lost)
        return stream.tokens

    return encode


class _Session:
    """A graph on one thread of the processor, nothing around it."""

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """One forward pass."""
        return dict(zip(self._names, self._session.run(None, inputs), strict=True))
