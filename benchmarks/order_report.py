"""The page, the numbers and the plot of an order run. Decodes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.command import heading
from benchmarks.pictures import Picture
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
from benchmarks.scores import (
    BYTE_COUNTS,
    PSNR_CEILING_DB,
    Monotonicity,
    PixelVariance,
    Score,
    Series,
    monotonicity,
    pooled_mse,
)
from tokenizer import ImageTokenizer
from tokenizer.quality import DATA_RANGE

NETWORK, PREFIX, FIXED_SPECTRUM = "prefix, decoder network", "prefix", "one fixed spectrum (KLT)"
# Bound on the mean cosine up to which a step counts as orthogonal to what it leaves.
ORTHOGONAL = 0.05

_OTHERS_NOTE = """\
All columns are decoded by the inverse transform alone, so that no network can favour the order it was
trained on, and all get token 0, which names the spectrum class. A bit of a coefficient halves the cell that
its earlier bits left, so it means nothing without them:

- *prefix*: the first tokens of the stream.
- *random bits*, *reversed bits*: the stream's bits shuffled, or last first, then dealt again so that the bits
  of each coefficient come in order. Every bit can be used; only which coefficients come first differs.
- *random tokens*, *reversed tokens*: whole tokens of the stream, at random or last first. A bit is used only
  if all earlier bits of its coefficient are in the subset; others are dropped (the JSON file has the share).
- *one fixed spectrum (KLT)*: colour KLT and DCT with the same embedded quantizer, but one spectrum and one
  order for all pictures, fitted to the very pictures of this table, which favours it. It spends no byte on
  a class.

Explained variance about the common mean colour, so that nothing sent explains about nothing; below 0 where
the model's mean colour is not that of these pictures:"""


@dataclass(frozen=True, slots=True)
class Found:
    """One picture."""

    name: str
    mse: Mapping[str, Sequence[float]]
    """Squared error per order at each byte count."""
    usable: Mapping[str, Sequence[float]]
    """Share of bits that could be used, for orders other than the stream's."""
    cosines: Mapping[str, Sequence[float]]
    """Per decoder, between each step and what it leaves: one fewer than byte counts."""


def explained(
    found: Sequence[Found], pictures: Sequence[Picture], variance_px: float, order: str
) -> list[float]:
    """1 - squared error / variance at each byte count, pooled over pixels."""
    errors = np.array([one.mse[order] for one in found])
    return [1 - pooled_mse(column, pictures) / variance_px for column in errors.T]


def falls(found: Sequence[Found], order: str) -> Monotonicity:
    """Whether more bytes ever gave a larger error."""
    rows = tuple(tuple(_score(error) for error in one.mse[order]) for one in found)
    return monotonicity(Series(order, rows), len(BYTE_COUNTS))


def _score(error: float) -> Score:
    psnr_db = PSNR_CEILING_DB if error == 0 else 10 * np.log10(DATA_RANGE**2 / error)
    return Score(0, min(float(psnr_db), PSNR_CEILING_DB), None, None, "")


def gains_per_byte(shares: Sequence[float]) -> list[float]:
    """Explained variance gained per byte on each step between byte counts."""
    return [
        (after - before) / (more - fewer)
        for (before, after), (fewer, more) in zip(pairwise(shares), pairwise(BYTE_COUNTS), strict=True)
    ]


def page(
    found: Sequence[Found],
    pictures: Sequence[Picture],
    variance: PixelVariance,
    title: str,
    tokenizer: ImageTokenizer,
) -> str:
    """Markdown: explained variance, falls, other orders, orthogonality."""
    parts = [
        heading(f"Order of tokens on {title}", "order", len(found), tokenizer),
        "Explained variance = 1 - squared error / pixel variance, pooled over pictures.",
        "## How much each prefix explains\n\n" + _prefix_table(found, pictures, variance),
        "## Is more always better?\n\n" + _falls_table(found, pictures, variance),
        "## The same number of bytes in another order\n\n"
        f"{_OTHERS_NOTE}\n\n{_orders_table(found, pictures, variance)}",
        "## Is each step orthogonal to what it leaves?\n\n" + _cosine_table(found),
        environment_line(),
    ]
    return "\n\n".join(parts) + "\n"


def _prefix_table(found: Sequence[Found], pictures: Sequence[Picture], variance: PixelVariance) -> str:
    columns = [
        explained(found, pictures, about, order)
        for about in (variance.about_own_mean, variance.about_common_mean)
        for order in (NETWORK, PREFIX)
    ]
    gains: list[float | None] = [None, *gains_per_byte(columns[0])]
    rows = [
        [str(count), *(percent(column[step]) for column in columns), _per_100_bytes(gains[step])]
        for step, count in enumerate(BYTE_COUNTS)
    ]
    header = [
        "bytes",
        "about own mean: network",
        "linear",
        "about common mean: network",
        "linear",
        "points gained per 100 bytes",
    ]
    note = (
        "*About own mean*: variance around the mean colour of each picture; *about common mean*: around that "
        "of all pictures. *Network* is what `decode` gives, *linear* the inverse transform alone. The last "
        "column is the first one's gain since the row above.\n\n"
    )
    return note + markdown_table(header, rows)


def _per_100_bytes(gain: float | None) -> str:
    return "–" if gain is None else f"{100 * 100 * gain:.2f}"


def _falls_table(found: Sequence[Found], pictures: Sequence[Picture], variance: PixelVariance) -> str:
    rows = []
    for name, order in (("network", NETWORK), ("linear", PREFIX)):
        seen = falls(found, order)
        gains = gains_per_byte(explained(found, pictures, variance.about_own_mean, order))
        rows.append(
            [
                name,
                f"{seen.pairs_not_falling} of {seen.pairs} ({percent(seen.share_not_falling)})",
                f"{seen.deepest_fall_db:.3f} dB",
                "yes" if seen.is_mean_strictly_rising else "no",
                "yes" if all(later < earlier for earlier, later in pairwise(gains)) else "no",
            ]
        )
    header = [
        "decode",
        "(picture, step) pairs that do not fall",
        "deepest fall",
        "mean strictly rising",
        "every byte explains less than those before",
    ]
    return markdown_table(header, rows)


def _orders_table(found: Sequence[Found], pictures: Sequence[Picture], variance: PixelVariance) -> str:
    orders = [order for order in found[0].mse if order != NETWORK]
    columns = {order: explained(found, pictures, variance.about_common_mean, order) for order in orders}
    rows = [
        [str(count), *(percent(columns[order][step]) for order in orders)]
        for step, count in enumerate(BYTE_COUNTS)
    ]
    return markdown_table(["bytes", *orders], rows)


def _cosine_table(found: Sequence[Found]) -> str:
    columns = {order: np.array([one.cosines[order] for one in found]) for order in (NETWORK, PREFIX)}
    rows = [
        [f"{fewer} → {more}", *(_mean_and_spread(values[:, step]) for values in columns.values())]
        for step, (fewer, more) in enumerate(pairwise(BYTE_COUNTS))
    ]
    rows.append(["all", *(_mean_and_spread(values) for values in columns.values())])
    note = (
        "Cosine between the step from one prefix to the next and what is still missing after it: mean over "
        "pictures, ± standard deviation. A converged conditional mean has 0. Above 0, steps go not far "
        f"enough; below 0, too far. A mean within ±{ORTHOGONAL} counts as orthogonal.\n\n"
    )
    return note + markdown_table(["step, bytes", "network", "linear"], rows)


def _mean_and_spread(values: np.ndarray) -> str:
    return f"{values.mean():+.3f} ± {number(float(values.std()), 3)}"


def as_json(
    found: Sequence[Found], pictures: Sequence[Picture], variance: PixelVariance
) -> dict[str, object]:
    """All figures, those of single pictures included."""
    orders = list(found[0].mse)
    return {
        "byte_counts": list(BYTE_COUNTS),
        "pixel_variance": {name: round(value, 3) for name, value in asdict(variance).items()},
        "explained_variance": {
            about: {order: _rounded(explained(found, pictures, value, order), 5) for order in orders}
            for about, value in asdict(variance).items()
        },
        "monotonicity": {order: asdict(falls(found, order)) for order in (NETWORK, PREFIX)},
        "usable_bits": {
            order: _rounded(np.mean([one.usable[order] for one in found], axis=0), 4)
            for order in found[0].usable
        },
        "cosine": {
            order: _rounded(np.mean([one.cosines[order] for one in found], axis=0), 4)
            for order in found[0].cosines
        },
        "mse_per_picture": {one.name: _rounded(one.mse[NETWORK], 3) for one in found},
    }


def _rounded(values: Sequence[float] | np.ndarray, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]


def plot(
    found: Sequence[Found], pictures: Sequence[Picture], variance: PixelVariance, path: Path, *, title: str
) -> None:
    """Explained variance of all orders, and the cosines, side by side."""
    with drawing(path, title, (15, 6), (3, 2)) as (axes, cosine_axes):
        byte_ticks(axes, BYTE_COUNTS)
        style_axes(
            axes, "Explained pixel variance (about the common mean colour), %", "bytes per picture", ""
        )
        for line in _order_lines(found, pictures, variance):
            axes.plot(
                line.xs,
                line.ys,
                label=line.label,
                color=line.colour,
                linestyle=line.style,
                linewidth=line.width,
            )
        # All orders end at one point, so labels at the ends would name nothing.
        axes.legend(frameon=False, fontsize=9, loc=(0.03, 0.3))
        byte_ticks(cosine_axes, BYTE_COUNTS)
        style_axes(
            cosine_axes,
            "Cosine between a step and what it leaves (0: orthogonal)",
            "bytes after the step",
            "",
        )
        cosine_axes.axhspan(-ORTHOGONAL, ORTHOGONAL, color="#eef3fa", zorder=0)
        lines = _cosine_lines(found)
        limit = max(2 * ORTHOGONAL, *(1.1 * abs(y or 0.0) for line in lines for y in line.ys))
        cosine_axes.set_ylim(-limit, limit)
        draw_lines(cosine_axes, lines)


def _order_lines(found: Sequence[Found], pictures: Sequence[Picture], variance: PixelVariance) -> list[Line]:
    colours = {NETWORK: OURS_COLOUR, PREFIX: OURS_COLOUR, FIXED_SPECTRUM: MUTED}
    others = [order for order in found[0].mse if order not in colours]
    colours |= dict(zip(others, PEER_COLOURS, strict=False))
    looks = {NETWORK: ("-", 2.8), PREFIX: ("--", 1.8)}
    lines = [
        Line(
            order,
            BYTE_COUNTS,
            [100 * share for share in explained(found, pictures, variance.about_common_mean, order)],
            colours[order],
            *looks.get(order, ("-", 1.5)),
        )
        for order in found[0].mse
    ]
    middle = BYTE_COUNTS.index(512)
    return sorted(lines, key=lambda line: -(line.ys[middle] or 0.0))


def _cosine_lines(found: Sequence[Found]) -> list[Line]:
    return [
        Line(
            label,
            BYTE_COUNTS[1:],
            np.mean([one.cosines[order] for one in found], axis=0).tolist(),
            OURS_COLOUR,
            style,
            width,
        )
        for label, order, style, width in (("network", NETWORK, "-", 2.8), ("linear", PREFIX, "--", 1.8))
    ]
