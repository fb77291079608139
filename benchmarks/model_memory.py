"""Memory that a model call takes, by canvas and batch: what an operator sizes a server's limit with.

    python -m benchmarks.model_memory [--model PATH] [--threads 2]

Prints and writes `benchmarks/results/model_memory.{md,json}`: the highest resident memory of a fresh process
that loaded the model and ran encode or decode once, and what that is above the process that only loaded it,
per pixel of the batch. Random pixels have the longest streams, so they are the worst case.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from benchmarks.memory import peak_resident_mib
from benchmarks.report import RESULTS, environment, environment_line, markdown_table, number, write_json
from tokenizer import ImageTokenizer

MIB = 2**20
CASES = ((256, 1), (256, 4), (512, 4), (1024, 1), (1024, 4))
Operation = Literal["load", "encode", "decode"]


@dataclass(frozen=True, slots=True)
class Case:
    """One call in a process of its own."""

    operation: Operation
    side_px: int
    batch_size: int
    peak_mib: float

    @property
    def area_px(self) -> int:
        """Pixels of the whole batch."""
        return self.batch_size * self.side_px**2

    def bytes_per_px(self, loaded_mib: float) -> float:
        """What the call took beyond the loaded model."""
        return (self.peak_mib - loaded_mib) * MIB / self.area_px


def main() -> None:
    """Measure, print, write."""
    arguments = _parse_arguments()
    plan: list[tuple[Operation, int, int]] = [("load", 0, 1)]
    plan += [("encode", *case) for case in CASES] + [("decode", *case) for case in CASES]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        cases = [
            Case(*what, pool.apply(_peak_mib, (arguments.model, arguments.threads, *what))) for what in plan
        ]
    loaded_mib = cases[0].peak_mib
    rows = [_row(case, loaded_mib) for case in cases[1:]]
    head = ["call", "canvas", "batch", "highest MiB", "bytes per pixel above loading"]
    text = (
        f"# Memory of a model call\n\nA process that only loaded the model: {loaded_mib:.0f} MiB. "
        f"{arguments.threads} threads. Written by `python -m benchmarks.model_memory`.\n\n"
        f"{markdown_table(head, rows)}\n\n{environment_line()}\n"
    )
    print(text)
    (RESULTS / "model_memory.md").write_text(text)
    write_json(
        RESULTS / "model_memory.json",
        {"environment": environment(), "cases": [asdict(case) for case in cases]},
    )


def _row(case: Case, loaded_mib: float) -> list[str]:
    canvas, batch_size = f"{case.side_px}x{case.side_px}", str(case.batch_size)
    per_px = number(case.bytes_per_px(loaded_mib), 0)
    return [case.operation, canvas, batch_size, number(case.peak_mib, 0), per_px]


def _peak_mib(model: str, threads: int, operation: Operation, side_px: int, batch_size: int) -> float:
    """Runs in the fresh process. For decode, the stream comes from a small encode first."""
    tokenizer = ImageTokenizer.from_pretrained(model, num_threads=threads)
    if operation != "load":
        pixels = np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
        area_px = side_px**2
        count = batch_size if operation == "encode" else 1
        streams = tokenizer.encode([pixels] * count, canvas_area_px=area_px)
        if operation == "decode":
            tokenizer.decode(streams * batch_size)
    return peak_resident_mib(os.getpid())


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Memory of a model call, by canvas and batch.")
    parser.add_argument("--model", default="default", help="name of a shipped model, or a folder")
    parser.add_argument("--threads", type=int, default=2, help="threads of the call")
    return parser.parse_args()


if __name__ == "__main__":
    main()
