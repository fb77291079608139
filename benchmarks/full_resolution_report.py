"""The page and the plot of a full-resolution run. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import rate_distortion_report
from benchmarks.rate_distortion_report import MEASURES, Measured, monotonicity_table, table
from benchmarks.report import environment_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BITS_PER_PIXEL = (0.02, 0.03, 0.05, 0.08, 0.125, 0.18, 0.25)

_NOTE = """\
Ours are bare tokens of one stream per picture and canvas; a header costs 10 bytes, 12 on a canvas that is
not the default one. A canvas of the default area has some 2048 tokens, one of twice the area twice as many;
where the stream has ended, the last picture stands. Peers are whole files at their best downsampled size and
setting per picture. `(k/n)`: only k pictures fit; –: none."""


def page(measured: Measured) -> str:
    """Markdown: one table per measure, and monotonicity of ours."""
    model = measured.model
    parts = [
        f"# Full-size pictures of {measured.title}, {len(measured.pictures)} pictures",
        f"Model `{model['name']}` {model['version']}, fingerprint `{model['fingerprint']}`. "
        "Written by `python -m benchmarks.full_resolution`.",
        _NOTE,
    ]
    if measured.missing:
        parts.append(f"Not installed, so left out: {', '.join(measured.missing)}.")
    labels = [
        f"{count} ({bits:g} bpp)" for count, bits in zip(measured.byte_counts, BITS_PER_PIXEL, strict=True)
    ]
    parts += [
        f"## {title}\n\n{table(measured, measure, digits, labels)}" for measure, title, digits in MEASURES
    ]
    parts.append("## Does quality ever fall as bytes grow?\n\n" + monotonicity_table(measured))
    parts.append(environment_line())
    return "\n\n".join(parts) + "\n"


def plot(measured: Measured, path: Path) -> None:
    """PSNR and MS-SSIM against bits per pixel, side by side."""
    rate_distortion_report.plot(measured, path, _bpp_ticks)


def _bpp_ticks(axes: Axes, byte_counts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(byte_counts, [f"{bits:g}" for bits in BITS_PER_PIXEL])
    axes.minorticks_off()
    axes.set_xlim(byte_counts[0], byte_counts[-1])
    axes.set_xlabel("bits per pixel")
