"""Whole streams with their curves, kept between the two passes of a set budget. Lines of JSON, gzipped."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.batch.rows import Failure, Row
from serving.batch.units import Unit
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.distortion import DistortionCurve
from tokenizer.sequence import TokenSequence

WHOLES = "wholes"


def wholes_path(folder: Path, unit: Unit) -> Path:
    """Where the whole streams of a unit lie."""
    return folder / f"{unit.name}.jsonl.gz"


def as_line(row: Row) -> str:
    """One row without its fields, which the source still has."""
    if row.failure is not None:
        return json.dumps({"key": row.key, "reason": row.failure.reason, "message": row.failure.message})
    one = row.sequence
    assert one is not None and one.curve is not None  # Demand.of refuses streams without a curve
    content = {
        "key": row.key,
        "tokens": base64.b64encode(one.tokens).decode(),
        "source": [one.source.width_px, one.source.height_px],
        "canvas": [one.canvas.width_px, one.canvas.height_px],
        "coding": one.coding.value,
        "fingerprint": one.fingerprint,
        "lengths": one.curve.lengths,
        "psnr_db": one.curve.psnr_db,
    }
    return json.dumps(content)


def read_wholes(path: Path, source: str) -> Iterator[Row]:
    """The rows of a unit, in order."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            yield _as_row(json.loads(line), source)


def _as_row(content: dict[str, Any], source: str) -> Row:
    if "reason" in content:
        return Row(content["key"], source, failure=Failure(content["reason"], content["message"]))
    curve = DistortionCurve(tuple(content["lengths"]), tuple(content["psnr_db"]))
    sequence = TokenSequence(
        base64.b64decode(content["tokens"]),
        Size(*content["source"]),
        content["fingerprint"],
        Size(*content["canvas"]),
        curve,
        Coding(content["coding"]),
    )
    return Row(content["key"], source, sequence=sequence)
