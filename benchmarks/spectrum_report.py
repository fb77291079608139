"""The page, the numbers and the plot of a spectrum run. Decodes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import heading
from benchmarks.report import (
    INK,
    MUTED,
    drawing,
    environment_line,
    markdown_table,
    number,
    percent,
    style_axes,
)
from tokenizer import ImageTokenizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BYTE_COUNTS = (16, 32, 64, 128, 256, 512, 1024, 2048)
# Frequencies of the page's second table, in cycles per picture.
LISTED_CYCLES = (1, 2, 4, 8, 16, 32, 64, 128)
# Rings are pooled into bands of this width: single rings at high frequencies would be noise on a log axis.
_POOL_FACTOR = 2 ** (1 / 8)
# Half of the amplitude is a quarter of the power.
HALF_POWER, HALF_AMPLITUDE = 0.5, 0.25


@dataclass(frozen=True, slots=True)
class Spectra:
    """Power at 1, 2, 3, ... cycles per picture."""

    original: NDArray[np.float64]
    """f64[F]"""
    decoded: NDArray[np.float64]
    """Of what each byte count shows, f64[K, F]."""
    error: NDArray[np.float64]
    """Of the difference, f64[K, F]."""

    def pooled(self) -> tuple[list[float], NDArray[np.float64], NDArray[np.float64]]:
        """(cycles, share of power that is there [K, B], share that is right [K, B]) in B bands."""
        bands = _bands(len(self.original))
        starts = [band.start for band in bands]
        cycles = [float(np.sqrt((band.start + 1) * band.stop)) for band in bands]
        original = np.add.reduceat(self.original, starts)
        there = np.add.reduceat(self.decoded, starts, axis=1) / original
        return cycles, there, 1 - np.add.reduceat(self.error, starts, axis=1) / original


def _bands(count: int) -> list[range]:
    """Indices of the rings 1..count, each band one ring or an eighth of an octave wide."""
    bands, start = [], 0
    while start < count:
        stop = min(count, max(start + 1, round((start + 1) * _POOL_FACTOR)))
        bands.append(range(start, stop))
        start = stop
    return bands


def arrived_up_to(cycles: list[float], share: NDArray[np.float64], level: float) -> float | None:
    """The frequency at which a share falls below a level for the first time; None if it never does.

    Interpolated on a logarithmic axis; 0 if the lowest frequency is below the level already.
    """
    below = np.flatnonzero(share < level)
    if not below.size:
        return None
    first = int(below[0])
    if first == 0:
        return 0.0
    part = (share[first - 1] - level) / (share[first - 1] - share[first])
    return float(cycles[first - 1] * (cycles[first] / cycles[first - 1]) ** part)


def page(spectra: Spectra, title: str, picture_count: int, tokenizer: ImageTokenizer) -> str:
    """Markdown: up to which frequency half has arrived, then shares at single frequencies."""
    cycles, there, right = spectra.pooled()
    parts = [
        heading(f"Spectra of prefixes on {title}", "spectrum", picture_count, tokenizer),
        "Luma, Hann window, power summed over pictures and directions. A wave of 1 cycle per picture goes "
        "from dark to light and back once from edge to edge; fine detail has many cycles. On a canvas of "
        "256x256 no token speaks of more than 64 cycles along either side.",
        "## Up to which frequency has half arrived?\n\n" + _half_table(cycles, there, right),
        "## Share of the original's power at single frequencies, in cycles per picture\n\n"
        + _share_table(cycles, there),
        environment_line(),
    ]
    return "\n\n".join(parts) + "\n"


def _half_table(cycles: list[float], there: NDArray[np.float64], right: NDArray[np.float64]) -> str:
    rows = [
        [
            str(count),
            _cycles(arrived_up_to(cycles, there[step], HALF_POWER)),
            _cycles(arrived_up_to(cycles, there[step], HALF_AMPLITUDE)),
            _cycles(arrived_up_to(cycles, right[step], HALF_POWER)),
        ]
        for step, count in enumerate(BYTE_COUNTS)
    ]
    note = (
        "In cycles per picture. *Right* is 1 - power of the error / power of the original: it counts only "
        "what is where it belongs. The two agree for a decoder that shows the mean of what may be, and part "
        "where a decoder invents.\n\n"
    )
    return note + markdown_table(["bytes", "half the power", "half the amplitude", "half of it right"], rows)


def _cycles(value: float | None) -> str:
    return "all" if value is None else number(value, 1)


def _share_table(cycles: list[float], there: NDArray[np.float64]) -> str:
    listed = [wanted for wanted in LISTED_CYCLES if wanted <= cycles[-1] * _POOL_FACTOR]
    nearest = [int(np.argmin(np.abs(np.log(np.asarray(cycles) / wanted)))) for wanted in listed]
    rows = [
        [str(count), *(percent(float(there[step, band])) for band in nearest)]
        for step, count in enumerate(BYTE_COUNTS)
    ]
    return markdown_table(["bytes", *(str(wanted) for wanted in listed)], rows)


def as_json(spectra: Spectra) -> dict[str, object]:
    """The pooled shares and the half-way frequencies."""
    cycles, there, right = spectra.pooled()
    return {
        "byte_counts": list(BYTE_COUNTS),
        "cycles_per_picture": [round(value, 2) for value in cycles],
        "power_share": {str(count): _rounded(row) for count, row in zip(BYTE_COUNTS, there, strict=True)},
        "right_share": {str(count): _rounded(row) for count, row in zip(BYTE_COUNTS, right, strict=True)},
        "half_power_cycles": [arrived_up_to(cycles, row, HALF_POWER) for row in there],
        "half_amplitude_cycles": [arrived_up_to(cycles, row, HALF_AMPLITUDE) for row in there],
        "half_right_cycles": [arrived_up_to(cycles, row, HALF_POWER) for row in right],
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 4) for value in values]


def plot(spectra: Spectra, path: Path, *, title: str) -> None:
    """Share of the originals' power per frequency, a curve per byte count, named where it crosses a half."""
    title = f"Coarse first: which frequencies have arrived after so many bytes\n{title}"
    with drawing(path, title, (11, 6), (1,)) as (axes,):
        _draw(axes, spectra)


def _draw(axes: Axes, spectra: Spectra) -> None:
    from matplotlib import colormaps

    cycles, there, _ = spectra.pooled()
    style_axes(axes, "", "cycles per picture (coarse → fine)", "share of the original's power, %")
    axes.set_xscale("log", base=2)
    ticks = [tick for tick in LISTED_CYCLES if tick <= cycles[-1] * _POOL_FACTOR]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(1, cycles[-1])
    axes.set_ylim(0, 108)
    axes.axhline(100, color=INK, linewidth=1)
    axes.annotate("original", (1.05, 101.5), fontsize=9, color=INK)
    for step, count in enumerate(BYTE_COUNTS):
        colour = colormaps["viridis_r"](0.15 + 0.85 * step / (len(BYTE_COUNTS) - 1))
        axes.plot(cycles, 100 * there[step], color=colour, linewidth=2.2)
        middle = arrived_up_to(cycles, there[step], HALF_POWER)
        if middle:
            axes.annotate(
                str(count) if step else f"{count} bytes",
                (middle, 50),
                fontsize=9,
                color=colour,
                fontweight="bold",
                ha="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )
    axes.annotate("half", (1.05, 51.5), fontsize=9, color=MUTED)
    axes.axhline(50, color=MUTED, linewidth=0.8, linestyle=":", zorder=0)
