"""The page, the numbers and the plot of a perception run. Decodes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.command import heading
from benchmarks.report import (
    OURS_COLOUR,
    PEER_COLOURS,
    Line,
    byte_ticks,
    draw_lines,
    drawing,
    environment_line,
    markdown_table,
    number,
    style_axes,
)
from tokenizer import ImageTokenizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BYTE_COUNTS = (64, 128, 256, 512, 1024)
FIDELITY, REALISM, NOISE = "Tessera, fidelity", "Tessera", "grain of the same PSNR"
NOISE_COLOUR = "#6b6b76"
# Distances are small shares of a deviation; the paper prints thousandths as well.
THOUSANDTHS = 1000


@dataclass(frozen=True, slots=True)
class Point:
    """One way of decoding at one byte count."""

    series: str
    """Ours as it is, ours with the knob, grain in its place, or a codec."""
    byte_count: int
    knob: dict[str, float]
    """Realism and steps, also those that grain stands for; empty where there is no such knob."""
    psnr_db: float
    distance: tuple[float, ...]
    """At each pyramid level, fine to coarse."""

    @property
    def mean_distance(self) -> float:
        """Mean over levels."""
        return float(np.mean(self.distance))

    @property
    def name(self) -> str:
        """Name in tables."""
        return ", ".join([self.series, *(f"{name} {value:g}" for name, value in self.knob.items())])


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run found."""

    title: str
    picture_count: int
    points: tuple[Point, ...]
    sides_px: tuple[int, ...]
    floor: tuple[float, ...]
    """Distance of the originals from themselves with patches at other places."""

    def at(self, byte_count: int) -> list[Point]:
        """All points of a byte count."""
        return [point for point in self.points if point.byte_count == byte_count]

    def against_noise(self) -> list[tuple[Point, Point]]:
        """Every refined point, and the grain that costs the same PSNR."""
        noise = {(p.byte_count, p.name): p for p in self.points if p.series == NOISE}
        refined = [p for p in self.points if p.series == REALISM]
        return [(p, noise[p.byte_count, replace(p, series=NOISE).name]) for p in refined]

    def steps(self) -> list[float]:
        """Numbers of refinement steps that were measured."""
        return sorted({point.knob["steps"] for point in self.points if "steps" in point.knob})


def page(report: Report, tokenizer: ImageTokenizer) -> str:
    """Markdown: one table per byte count."""
    parts = [
        heading(
            f"Distortion and perception on {report.title}", "perception", report.picture_count, tokenizer
        ),
        _note(report),
    ]
    if report.against_noise():
        parts.append(f"## Realism against grain\n\n{_noise_note(report)}\n\n{_noise_table(report)}")
    for count in BYTE_COUNTS:
        parts.append(f"## {count} bytes\n\n{_table(report.at(count), report.sides_px)}")
    parts.append(environment_line())
    return "\n\n".join(parts) + "\n"


def _note(report: Report) -> str:
    floor = number(THOUSANDTHS * float(np.mean(report.floor)), 0)
    lines = [
        "PSNR asks whether every pixel is right. The *texture distance* asks whether the pictures, taken "
        "together, have the patches that originals have; smooth pictures fail it. It is the sliced "
        "Wasserstein distance between 7x7 patches of decoded pictures and originals on each level of a "
        "Laplacian pyramid (Karras et al. 2018), in thousandths of the originals' deviation on that level: "
        f"0 is best. Levels are named by their side; {report.sides_px[0]} px holds the finest detail.",
        f"The originals with patches at other places are at {floor} in the mean: pictures whose textures "
        "are perfect, but not at the pixel where the original has them, would get about that.",
    ]
    series = {point.series for point in report.points}
    if REALISM not in series:
        lines.append("This model decodes for fidelity only.")
    if series <= {FIDELITY, REALISM, NOISE}:
        lines.append("WebP and AVIF are left out: no kept settings (`python -m benchmarks.rate_distortion`).")
    return "\n\n".join(lines)


def _noise_note(report: Report) -> str:
    pairs = report.against_noise()
    better = sum(refined.mean_distance < noise.mean_distance for refined, noise in pairs)
    return (
        "Any roughness lowers the texture distance of smooth pictures. So beside each refined set stands the "
        "fidelity decode with blurred Gaussian noise, grey, in proportion to the error that the model "
        f"expects of each picture, as strong as costs the same PSNR. Realism is nearer "
        f"to the originals in {better} of {len(pairs)} cases. Mean texture distance, realism / grain:"
    )


def _noise_table(report: Report) -> str:
    rows: dict[str, list[str]] = {}
    for refined, noise in report.against_noise():
        cell = " / ".join(number(_thousandths(point), 0) for point in (refined, noise))
        rows.setdefault(refined.name, []).append(cell)
    header = ["", *(f"{count} bytes" for count in BYTE_COUNTS)]
    return markdown_table(header, [[name, *cells] for name, cells in rows.items()])


def _table(points: Sequence[Point], sides_px: Sequence[int]) -> str:
    rows = [
        [
            point.name,
            number(point.psnr_db),
            *(number(THOUSANDTHS * value, 0) for value in (point.mean_distance, *point.distance)),
        ]
        for point in points
    ]
    header = ["", "PSNR, dB", "texture distance, mean", *(f"{side} px" for side in sides_px)]
    return markdown_table(header, rows)


def as_json(report: Report) -> dict[str, object]:
    """All points."""
    return {
        "byte_counts": list(BYTE_COUNTS),
        "level_sides_px": list(report.sides_px),
        "distance_of_originals_at_other_places": [round(value, 5) for value in report.floor],
        "points": [
            asdict(point)
            | {
                "psnr_db": round(point.psnr_db, 4),
                "distance": [round(value, 5) for value in point.distance],
                "mean_distance": round(point.mean_distance, 5),
            }
            for point in report.points
        ],
    }


def plot(report: Report, path: Path, *, title: str) -> None:
    """Texture distance against bytes, and against PSNR."""
    with drawing(path, title, (15, 6)) as (byte_axes, plane):
        byte_ticks(byte_axes, BYTE_COUNTS)
        style_axes(byte_axes, "Texture distance (0: like originals)", "bytes per picture", "thousandths")
        draw_lines(byte_axes, [_line(name, points) for name, points in _series(report)])
        byte_axes.set_ylim(bottom=0)
        style_axes(plane, _plane_title(report), "PSNR, dB", "texture distance")
        for name, points in _series(report):
            colour, style, width = _look(name)
            xs, ys = [point.psnr_db for point in points], [_thousandths(point) for point in points]
            plane.plot(xs, ys, style, color=colour, linewidth=width, marker="o", markersize=4, label=name)
            offset = (5, 5) if colour == OURS_COLOUR else (-6, -13)
            for point, x, y in zip(points, xs, ys, strict=True):
                plane.annotate(
                    str(point.byte_count),
                    (x, y),
                    offset,
                    textcoords="offset points",
                    fontsize=8,
                    color=colour,
                )
        for count in BYTE_COUNTS:
            _draw_knob(plane, report, count)
        plane.set_ylim(bottom=0)
        plane.legend(frameon=False, fontsize=9)


def _plane_title(report: Report) -> str:
    walk = "; dotted: realism, and grain, from 0 to 1" if report.steps() else ""
    return f"Distortion against perception (best: lower right; numbers: bytes{walk})"


def _series(report: Report) -> list[tuple[str, list[Point]]]:
    """Fidelity, full realism at its most steps, its grain, and the peers, each through its byte counts."""
    most = max(report.steps(), default=0)
    full = {"realism": 1.0, "steps": most}
    named: dict[str, list[Point]] = {}
    for point in report.points:
        if point.series not in (REALISM, NOISE):
            named.setdefault(point.series, []).append(point)
        elif point.knob == full:
            named.setdefault(f"{point.series}, realism 1, {most:g} steps", []).append(point)
    return list(named.items())


def _draw_knob(axes: Axes, report: Report, count: int) -> None:
    """The walks from fidelity to full realism and to its grain at one byte count, at the most steps."""
    most = max(report.steps(), default=0)
    for series, colour in ((REALISM, OURS_COLOUR), (NOISE, NOISE_COLOUR)) if most else ():
        walk = [
            point
            for point in report.at(count)
            if point.series == FIDELITY or (point.series == series and point.knob["steps"] == most)
        ]
        xs, ys = [point.psnr_db for point in walk], [_thousandths(point) for point in walk]
        axes.plot(xs, ys, ":", color=colour, linewidth=1)


def _line(name: str, points: Sequence[Point]) -> Line:
    ours = [point.byte_count for point in points]
    return Line(name, ours, [_thousandths(point) for point in points], *_look(name))


def _look(name: str) -> tuple[str, str, float]:
    if name == FIDELITY:
        return OURS_COLOUR, "-", 2.8
    if name.startswith(NOISE):
        return NOISE_COLOUR, "--", 1.5
    if name.startswith(REALISM):
        return OURS_COLOUR, "--", 2.2
    return PEER_COLOURS[("WebP", "AVIF").index(name)], "-", 1.5


def _thousandths(point: Point) -> float:
    return THOUSANDTHS * point.mean_distance
