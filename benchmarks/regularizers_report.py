"""The page of a regularizer comparison. Trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import environment_line, markdown_table, number


@dataclass(frozen=True, slots=True)
class Run:
    """One short run and what came out of it; facts are explained in benchmarks/robustness.py."""

    weight: float
    psnr_db: dict[int, float]
    more_bytes_cost_share: float
    noise_gain: float
    int8_loss_db: dict[int, float]
    worst_norm: float
    coding_rate: float
    effective_rank: float


def page(penalty: str, runs: Sequence[Run], steps: int, pictures: int, held_out: int) -> str:
    """Markdown: one row per weight."""
    head = (
        f"# Short runs of `small_128` by weight of {penalty}\n\n"
        f"Written by `python -m benchmarks.regularizers`: {steps} steps of 16 of {pictures} pictures, "
        f"measured on {held_out} held-out pictures in fp32, same seed and pictures in every run."
    )
    return "\n\n".join([head, _table(runs), environment_line()]) + "\n"


def _table(runs: Sequence[Run]) -> str:
    counts = list(runs[0].psnr_db)
    header = [
        "weight",
        *(f"PSNR at {count}, dB" for count in counts),
        "next byte costs PSNR, %",
        "noise gain",
        *(f"int8 loss at {count}, dB" for count in counts),
        "worst layer norm",
        "coding rate, nats",
        "effective rank",
    ]
    return markdown_table(header, [_row(run) for run in runs])


def _row(run: Run) -> list[str]:
    return [
        f"{run.weight:g}",
        *(number(value, 3) for value in run.psnr_db.values()),
        number(100 * run.more_bytes_cost_share, 1),
        number(run.noise_gain, 3),
        *(number(value, 4) for value in run.int8_loss_db.values()),
        number(run.worst_norm),
        number(run.coding_rate, 4),
        number(run.effective_rank),
    ]
