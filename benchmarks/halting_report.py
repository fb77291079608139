"""What single-pass halting did on a set of pictures: summaries, page, plot. Decodes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.command import heading
from benchmarks.report import (
    MUTED,
    OURS_COLOUR,
    PEER_COLOURS,
    Line,
    byte_ticks,
    draw_lines,
    drawing,
    environment_line,
    markdown_table,
    number,
    percent,
    style_axes,
)
from benchmarks.scores import BYTE_COUNTS
from tokenizer import ImageTokenizer


@dataclass(frozen=True, slots=True)
class Outcome:
    """One picture asked for one quality."""

    target_db: float
    coverage: float
    chosen_length: int
    is_all_tokens: bool
    """The chosen length is the whole stream: the curve did not promise the target."""
    true_psnr_db: float
    """At the chosen length."""
    oracle_length: int | None
    """The shortest length that meets the target; None if no length does."""
    mode: str = "fast"
    decodes: int = 0
    """Decodes that choosing the length took."""

    @property
    def is_met(self) -> bool:
        """The chosen length reaches the target."""
        return self.true_psnr_db >= self.target_db


@dataclass(frozen=True, slots=True)
class Found:
    """One picture: its outcomes, the curve's errors at the byte counts, and the true PSNR on a grid."""

    name: str
    outcomes: tuple[Outcome, ...]
    curve_errors_db: tuple[float, ...]
    true_psnr_db: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """One target and coverage, over the pictures that can reach the target."""

    target_db: float | None
    """None: all targets together."""
    coverage: float
    reachable: int
    unreachable: int
    met_share: float | None
    given_all: int
    """How many of the reachable pictures got all tokens."""
    bytes_over_oracle: float | None
    """Bytes spent in total / oracle bytes in total - 1."""
    mean_ratio_over_oracle: float | None
    """Mean over pictures of bytes spent / oracle bytes - 1: short streams count as much as long ones."""
    fixed_length: int | None
    fixed_over_oracle: float | None
    """The same for one length that serves the asked share of these pictures."""
    mean_shortfall_db: float | None
    """How far below the target those pictures fall that miss it."""
    mean_decodes: float | None
    """Decodes spent on a picture."""
    mode: str = "fast"


def mode_summaries(found: Sequence[Found]) -> list[Summary]:
    """All targets together, per coverage and mode."""
    first = found[0].outcomes
    coverages = sorted({outcome.coverage for outcome in first})
    modes = list(dict.fromkeys(outcome.mode for outcome in first))
    return [summarise(found, None, coverage, mode) for coverage in coverages for mode in modes]


def summaries(found: Sequence[Found]) -> list[Summary]:
    """Of the mode `fast`, per coverage: every target, then all targets together."""
    first = found[0].outcomes
    coverages = sorted({outcome.coverage for outcome in first})
    targets = sorted({outcome.target_db for outcome in first})
    return [summarise(found, target, coverage) for coverage in coverages for target in (*targets, None)]


def summarise(
    found: Sequence[Found], target_db: float | None, coverage: float, mode: str = "fast"
) -> Summary:
    """One row of the table."""
    asked = [
        (one, outcome)
        for one in found
        for outcome in one.outcomes
        if (outcome.coverage, outcome.mode) == (coverage, mode) and target_db in (None, outcome.target_db)
    ]
    reachable = [(one, outcome) for one, outcome in asked if outcome.oracle_length is not None]
    outcomes = [outcome for _, outcome in reachable]
    spent = np.array([outcome.chosen_length for outcome in outcomes], dtype=np.float64)
    oracle = np.array([outcome.oracle_length for outcome in outcomes], dtype=np.float64)
    misses = [outcome.target_db - outcome.true_psnr_db for outcome in outcomes if not outcome.is_met]
    curves = [one.true_psnr_db for one, _ in reachable]
    fixed = None if target_db is None else _fixed_length(curves, target_db, coverage)
    return Summary(
        target_db=target_db,
        coverage=coverage,
        reachable=len(outcomes),
        unreachable=len(asked) - len(outcomes),
        met_share=sum(outcome.is_met for outcome in outcomes) / len(outcomes) if outcomes else None,
        given_all=sum(outcome.is_all_tokens for outcome in outcomes),
        bytes_over_oracle=float(spent.sum() / oracle.sum() - 1) if outcomes else None,
        mean_ratio_over_oracle=float(np.mean(spent / oracle) - 1) if outcomes else None,
        fixed_length=fixed,
        fixed_over_oracle=None if fixed is None else float(fixed * len(outcomes) / oracle.sum() - 1),
        mean_shortfall_db=float(np.mean(misses)) if misses else None,
        mean_decodes=float(np.mean([outcome.decodes for outcome in outcomes])) if outcomes else None,
        mode=mode,
    )


def _fixed_length(curves: Sequence[Mapping[int, float]], target_db: float, coverage: float) -> int | None:
    """The shortest common length at which the asked share of these pictures meets the target."""
    if not curves:
        return None
    for length in sorted(set.intersection(*(set(curve) for curve in curves))):
        if np.mean([curve[length] >= target_db for curve in curves]) >= coverage:
            return length
    return None


def page(found: Sequence[Found], title: str, tokenizer: ImageTokenizer) -> str:
    """Markdown: one table per coverage, then the error of the predicted curve."""
    rows = summaries(found)
    parts = [
        heading(f"Halting on {title}", "halting", len(found), tokenizer),
        "Asked for at least so many decibels, in one pass. *Met* and bytes are over the pictures that can "
        "reach the target at all; the oracle knows the true shortest length of each.",
    ]
    for coverage in sorted({row.coverage for row in rows}):
        table = _table([row for row in rows if row.coverage == coverage])
        parts.append(f"## Coverage {coverage:.0%}\n\n{table}")
    parts.append("## Modes, all targets\n\n" + _mode_table(mode_summaries(found)))
    parts.append("## Error of the predicted PSNR\n\n" + _error_table(found))
    parts.append(environment_line())
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Summary]) -> str:
    header = [
        "target dB",
        "reachable",
        "unreachable",
        "met",
        "given all",
        "bytes over oracle",
        "mean ratio over oracle",
        "fixed length",
        "fixed over oracle",
        "mean shortfall of misses, dB",
    ]
    return markdown_table(header, [_cells(row) for row in rows])


def _cells(row: Summary) -> list[str]:
    return [
        "all" if row.target_db is None else f"{row.target_db:g}",
        str(row.reachable),
        str(row.unreachable),
        percent(row.met_share),
        str(row.given_all),
        percent(row.bytes_over_oracle),
        percent(row.mean_ratio_over_oracle),
        "–" if row.fixed_length is None else str(row.fixed_length),
        percent(row.fixed_over_oracle),
        number(row.mean_shortfall_db),
    ]


def _mode_table(rows: Sequence[Summary]) -> str:
    header = ["mode, coverage", "met", "bytes over oracle", "decodes per picture"]
    return markdown_table(
        header,
        [
            [
                f"{row.mode}, {row.coverage:.0%}",
                percent(row.met_share),
                percent(row.bytes_over_oracle),
                number(row.mean_decodes, 1),
            ]
            for row in rows
        ],
    )


def _error_table(found: Sequence[Found]) -> str:
    errors = np.array([one.curve_errors_db for one in found])
    rows = [
        [str(count), number(float(np.abs(column).mean()), 3), f"{column.mean():+.3f}"]
        for count, column in zip(BYTE_COUNTS, errors.T, strict=True)
    ]
    rows.append(["all", number(float(np.abs(errors).mean()), 3), f"{errors.mean():+.3f}"])
    return markdown_table(["bytes", "mean absolute error, dB", "mean error, dB"], rows)


def as_json(found: Sequence[Found]) -> dict[str, object]:
    """Every number of the page, and the curve's error for each picture."""
    return {
        "targets": [asdict(summary) for summary in summaries(found)],
        "modes": [asdict(summary) for summary in mode_summaries(found)],
        "byte_counts": list(BYTE_COUNTS),
        "curve_error_db": {one.name: [round(error, 3) for error in one.curve_errors_db] for one in found},
    }


def plot(found: Sequence[Found], path: Path, *, title: str) -> None:
    """Share met, bytes over the oracle, and the error of the curve, side by side."""
    with drawing(path, title, (16, 5), (1, 1, 1)) as (met_axes, bytes_axes, error_axes):
        rows = [row for row in summaries(found) if row.target_db is not None]
        style_axes(met_axes, "Pictures that meet the target, %", "target, dB", "")
        draw_lines(met_axes, _met_lines(rows))
        style_axes(bytes_axes, "Bytes over the oracle, %", "target, dB", "")
        draw_lines(bytes_axes, _bytes_lines(rows))
        byte_ticks(error_axes, BYTE_COUNTS)
        style_axes(error_axes, "Error of the predicted PSNR, dB", "tokens", "")
        draw_lines(error_axes, _error_lines(found))


def _met_lines(rows: Sequence[Summary]) -> list[Line]:
    lines = []
    for coverage, colour in zip(
        sorted({row.coverage for row in rows}), (OURS_COLOUR, PEER_COLOURS[0]), strict=False
    ):
        chosen = [row for row in rows if row.coverage == coverage]
        targets = [row.target_db or 0.0 for row in chosen]
        lines.append(Line(f"asked {coverage:.0%}", targets, [100 * coverage] * len(chosen), colour, ":", 1.0))
        lines.append(
            Line(
                f"met at {coverage:.0%}",
                targets,
                [_percent(row.met_share) for row in chosen],
                colour,
                "-",
                2.4,
            )
        )
    return lines


def _bytes_lines(rows: Sequence[Summary]) -> list[Line]:
    lines = []
    for coverage, colour in zip(
        sorted({row.coverage for row in rows}), (OURS_COLOUR, PEER_COLOURS[0]), strict=False
    ):
        chosen = [row for row in rows if row.coverage == coverage]
        targets = [row.target_db or 0.0 for row in chosen]
        ours = [_percent(row.bytes_over_oracle) for row in chosen]
        fixed = [_percent(row.fixed_over_oracle) for row in chosen]
        lines.append(Line(f"one pass, {coverage:.0%}", targets, ours, colour, "-", 2.4))
        lines.append(Line(f"fixed length, {coverage:.0%}", targets, fixed, colour, "--", 1.2))
    return lines


def _error_lines(found: Sequence[Found]) -> list[Line]:
    errors = np.array([one.curve_errors_db for one in found])
    low, middle, high = np.percentile(errors, (10, 50, 90), axis=0).tolist()
    absolute = np.abs(errors).mean(axis=0).tolist()
    return [
        Line("90th percentile", BYTE_COUNTS, high, MUTED, "-", 1.0),
        Line("median", BYTE_COUNTS, middle, OURS_COLOUR, "-", 2.4),
        Line("10th percentile", BYTE_COUNTS, low, MUTED, "-", 1.0),
        Line("mean absolute", BYTE_COUNTS, absolute, PEER_COLOURS[0], "--", 1.6),
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
