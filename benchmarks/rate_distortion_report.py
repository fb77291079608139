"""The page, the numbers and the plot of a rate-distortion run. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.pictures import Picture
from benchmarks.report import (
    OURS_COLOUR,
    PEER_COLOURS,
    Line,
    byte_ticks,
    draw_lines,
    drawing,
    environment,
    environment_line,
    markdown_table,
    number,
    percent,
    style_axes,
)
from benchmarks.scores import Series, explained_variance, monotonicity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = (("psnr_db", "PSNR in dB (RGB, mean over pictures)", 2), ("ms_ssim", "MS-SSIM", 3))


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything one run found; what the page, the plot and the JSON file are made of."""

    title: str
    byte_counts: tuple[int, ...]
    pictures: Sequence[Picture]
    series: Sequence[Series]
    """Ours first (tokens, file, other models), then the peers."""
    model: dict[str, str]
    missing: Sequence[str]
    """Peers that are not installed."""


def page(measured: Measured) -> str:
    """Markdown: one table per measure, then explained variance and monotonicity of ours."""
    parts = [_heading(measured)]
    parts += [f"## {title}\n\n{table(measured, measure, digits)}" for measure, title, digits in MEASURES]
    parts.append("## Explained variance of ours\n\n" + _variance_table(measured))
    parts.append("## Does quality ever fall as bytes grow?\n\n" + monotonicity_table(measured))
    parts.append(environment_line())
    return "\n\n".join(parts) + "\n"


def _heading(measured: Measured) -> str:
    model = measured.model
    lines = [
        f"# Rate-distortion on {measured.title}, {len(measured.pictures)} pictures",
        f"Model `{model['name']}` {model['version']}, fingerprint `{model['fingerprint']}`. "
        "Written by `python -m benchmarks.rate_distortion`.",
        "*Tokens* are the bare stream; *file* counts the header as well. Peers are whole files at their best "
        "downsampled size and quality per picture. `(k/n)`: only k pictures fit; –: none.",
    ]
    if measured.missing:
        lines.append(f"Not installed, so left out: {', '.join(measured.missing)}.")
    return "\n\n".join(lines)


def table(measured: Measured, measure: str, digits: int, labels: Sequence[str] | None = None) -> str:
    """Means of every series and of the best peer at each byte count; `labels` in place of plain counts."""
    labels = labels or [str(count) for count in measured.byte_counts]
    peers = [series for series in measured.series if not series.is_ours]
    header = ["bytes", *(series.name for series in measured.series), "best peer"]
    rows = []
    for step, label in enumerate(labels):
        means = [mean for series in peers if (mean := series.mean(measure, step)) is not None]
        cells = [_cell(series, measure, step, digits) for series in measured.series]
        rows.append([label, *cells, number(max(means, default=None), digits)])
    return markdown_table(header, rows)


def _cell(series: Series, measure: str, step: int, digits: int) -> str:
    mean, reached = series.mean(measure, step), series.reached(step)
    if mean is not None or reached in (0, len(series.rows)):
        return number(mean, digits)
    return f"({reached}/{len(series.rows)})"


def _ours(measured: Measured) -> list[Series]:
    return [series for series in measured.series if series.is_ours]


def _variance_table(measured: Measured) -> str:
    ours = _ours(measured)
    rows = [
        [str(count), *(percent(explained_variance(series, measured.pictures, step)) for series in ours)]
        for step, count in enumerate(measured.byte_counts)
    ]
    note = "Share of pixel variance around the mean colour of all pictures.\n\n"
    return note + markdown_table(["bytes", *(series.name for series in ours)], rows)


def monotonicity_table(measured: Measured) -> str:
    """Of ours: how often, and how far, more bytes gave a worse picture."""
    rows = []
    for series in _ours(measured):
        found = monotonicity(series, len(measured.byte_counts))
        pairs = f"{found.pairs_not_falling} of {found.pairs} ({percent(found.share_not_falling)})"
        mean = "yes" if found.is_mean_strictly_rising else "no"
        rows.append([series.name, pairs, f"{found.deepest_fall_db:.3f} dB", mean])
    header = ["", "(picture, step) pairs that do not fall", "deepest fall", "mean strictly rising"]
    return markdown_table(header, rows)


def as_json(measured: Measured) -> dict[str, object]:
    """Means of every series, and every picture of ours."""
    return {
        "pictures": measured.title,
        "count": len(measured.pictures),
        "byte_counts": list(measured.byte_counts),
        "model": measured.model,
        "environment": environment(),
        "not_installed": list(measured.missing),
        "series": {series.name: _series_as_json(series, measured) for series in measured.series},
    }


def _series_as_json(series: Series, measured: Measured) -> dict[str, object]:
    steps = range(len(measured.byte_counts))
    content: dict[str, object] = {
        measure: _rounded(series.means(measure, len(steps))) for measure in ("psnr_db", "ssim", "ms_ssim")
    }
    variances = [explained_variance(series, measured.pictures, step) for step in steps]
    content["explained_variance"] = _rounded(variances)
    content["pictures_reached"] = [series.reached(step) for step in steps]
    if series.is_ours:
        content["monotonicity"] = asdict(monotonicity(series, len(steps)))
        content["psnr_db_per_picture"] = {
            picture.name: [None if cell is None else cell.psnr_db for cell in row]
            for picture, row in zip(measured.pictures, series.rows, strict=True)
        }
    return content


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    """Four digits: a hundredth of what a reader can see in decibels."""
    return [None if value is None else round(value, 4) for value in values]


def plot(measured: Measured, path: Path, ticks: Callable[[Axes, Sequence[int]], None] = byte_ticks) -> None:
    """PSNR and MS-SSIM against bytes, side by side; `ticks` says how the byte counts are shown."""
    caption = f"{measured.title}, {len(measured.pictures)} pictures, model {measured.model['fingerprint']}"
    with drawing(path, caption, (15, 6.4)) as all_axes:
        for axes, (measure, title, _) in zip(all_axes, MEASURES, strict=True):
            style_axes(axes, title, "bytes per picture", "")
            ticks(axes, measured.byte_counts)
            draw_lines(axes, _lines(measured, measure))


def _lines(measured: Measured, measure: str) -> list[Line]:
    peers = [series for series in measured.series if not series.is_ours]
    colours = dict(zip((series.name for series in peers), PEER_COLOURS, strict=False))
    return [
        Line(
            series.name,
            measured.byte_counts,
            series.means(measure, len(measured.byte_counts)),
            *_look(series, _ours(measured), colours),
        )
        for series in measured.series
    ]


def _look(series: Series, ours: Sequence[Series], colours: dict[str, str]) -> tuple[str, str, float]:
    """Colour, line style and width: our tokens stand out, our file is dashed, our other models dotted."""
    if not series.is_ours:
        return colours.get(series.name, PEER_COLOURS[-1]), "-", 1.4
    place = min(ours.index(series), 2)
    return OURS_COLOUR, ("-", "--", ":")[place], (2.8, 1.8, 1.6)[place]
