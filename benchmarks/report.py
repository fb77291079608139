"""Measurements -> files that people read: a Markdown page, a JSON file, axes with labelled lines."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
INK, MUTED = "#1b1b1f", "#6b6b76"
OURS_COLOUR = "#0b57b0"
# Okabe and Ito's palette, which colour-blind readers can tell apart, without the blue that is ours.
PEER_COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f", "#6b6b76", "#000000")
# By flag of /proc/cpuinfo, best first.
_VECTORS = {
    "avx512_vnni": "with AVX-512 VNNI",
    "avx_vnni": "with AVX-VNNI",
    "avx512f": "with AVX-512",
    "avx2": "with AVX2",
}
_PACKAGES = ("numpy", "pillow", "onnxruntime", "grpcio")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table, first column to the left and all others to the right.

    >>> print(markdown_table(["a", "b"], [["x", "1"]]))
    | a | b |
    |:--|--:|
    | x | 1 |
    """
    lines = ["| " + " | ".join(header) + " |", "|:--|" + "--:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value: float | None, digits: int = 2) -> str:
    """A figure with fixed digits, or a dash.

    >>> number(1.234), number(None)
    ('1.23', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as percent, or a dash.

    >>> percent(0.914)
    '91.4 %'
    """
    return "–" if value is None else f"{100 * value:z.1f} %"


def environment() -> dict[str, str]:
    """What ran this: processor and versions. Names no host and no path."""
    facts = {"python": platform.python_version(), "processor": _processor()}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def _processor() -> str:
    """Its name, and what decides the speed of int8: the widest vectors that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    facts = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    vectors = next((name for flag, name in _VECTORS.items() if flag in flags), "")
    return f"{facts.get('model name', platform.machine())} {vectors}".strip()


def environment_line() -> str:
    """The environment as one sentence for the foot of a page."""
    return "Measured with " + ", ".join(f"{name} {value}" for name, value in environment().items()) + "."


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Indented, with short lists on one line, so that a change is a readable diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(key)}: {_lines(value, 2)}" for key, value in content.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _lines(value: object, indent: int) -> str:
    flat = json.dumps(value)
    if len(flat) + indent <= 110 or not isinstance(value, dict | list) or not value:
        return flat
    pad, inner = " " * indent, " " * (indent + 2)
    if isinstance(value, dict):
        body = [f"{inner}{json.dumps(key)}: {_lines(item, indent + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(body) + f"\n{pad}}}"
    if not any(isinstance(item, dict | list) for item in value):
        return flat
    return "[\n" + ",\n".join(inner + _lines(item, indent + 2) for item in value) + f"\n{pad}]"


def can_plot() -> bool:
    """True if matplotlib is installed; says so on stderr otherwise: pages and numbers do not need it."""
    if importlib.util.find_spec("matplotlib") is not None:
        return True
    print("no plot: matplotlib is not installed (pip install tessera[bench])", file=sys.stderr)
    return False


@contextmanager
def drawing(
    path: Path, title: str, size_inches: tuple[float, float], width_ratios: Sequence[float] = (1, 1)
) -> Iterator[list[Axes]]:
    """Axes side by side to draw on, saved as a PNG at `path` when the block ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1,
        len(width_ratios),
        figsize=size_inches,
        layout="constrained",
        width_ratios=width_ratios,
        squeeze=False,
    )
    try:
        yield list(axes[0])
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        figure.savefig(path, dpi=130)
    finally:
        pyplot.close(figure)


@dataclass(frozen=True, slots=True)
class Line:
    """One labelled line of a plot; gaps are None."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    colour: str
    style: str = "-"
    width: float = 1.6


def draw_lines(axes: Axes, lines: Sequence[Line], *, min_gap_share: float = 0.042) -> None:
    """Lines with their names at the right end, pushed apart where they would overlap."""
    ends: list[tuple[float, float, Line]] = []
    for line in lines:
        points = [(x, y) for x, y in zip(line.xs, line.ys, strict=True) if y is not None]
        if not points:
            continue
        axes.plot(*zip(*points, strict=True), color=line.colour, linestyle=line.style, linewidth=line.width)
        ends.append((points[-1][1], points[-1][0], line))
    low, high = axes.get_ylim()
    gap = (high - low) * min_gap_share
    ends.sort(key=lambda end: end[0])
    for height, (y, x, line) in zip(_spread([end[0] for end in ends], gap), ends, strict=True):
        weight = "bold" if line.width > 2 else "normal"
        axes.annotate(
            line.label,
            xy=(x, y),
            xytext=(1.015, height),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=9,
            color=line.colour,
            fontweight=weight,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.colour, "linewidth": 0.5, "alpha": 0.5},
        )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Sorted heights at least `gap` apart, each crowd around its own middle (pool adjacent violators).

    >>> _spread([1.0, 5.0, 5.0], gap=2.0)
    [1.0, 4.0, 6.0]
    """
    crowds: list[tuple[float, int]] = []
    for place, height in enumerate(heights):
        middle, size = height - place * gap, 1
        while crowds and crowds[-1][0] > middle:
            other, other_size = crowds.pop()
            middle = (other * other_size + middle * size) / (other_size + size)
            size += other_size
        crowds.append((middle, size))
    middles = [middle for middle, size in crowds for _ in range(size)]
    return [middle + place * gap for place, middle in enumerate(middles)]


def style_axes(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Quiet axes: a light grid, no box, the title to the left."""
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(x_label, color=MUTED)
    axes.set_ylabel(y_label, color=MUTED)
    axes.grid(True, color="#e4e4ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c8c8d0")


def byte_ticks(axes: Axes, byte_counts: Sequence[int]) -> None:
    """A log2 axis with a tick at every power of two that was measured."""
    axes.set_xscale("log", base=2)
    powers = [count for count in byte_counts if count & (count - 1) == 0]
    axes.set_xticks(powers, [str(power) for power in powers])
    axes.minorticks_off()
    axes.set_xlim(byte_counts[0], byte_counts[-1])
