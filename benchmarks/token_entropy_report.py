"""The page, the numbers and the plot of a token-entropy run. Counts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from tokenizer.spectral import BITS_PER_TOKEN

LISTED = tuple(count for count in BYTE_COUNTS if count >= 24)

_NOTE = """\
A bit of the stream is counted

- by **place** alone, all classes together;
- by **meaning**: frequency group, plane, and the bits of the same coefficient before it. There are only some
  thousand meanings, so a few pictures are enough, and a static code could carry these tables;
- by **class and meaning**: a table of its own for each class that token 0 names.

Not by class and place: that is millions of bits of which each is seen in a handful of pictures, too few for
any correction.

*Entropy* is the mean over pictures, corrected for few samples (Miller and Madow). *Coded* is what a static
code costs whose tables were counted on the other half of the pictures (Krichevsky-Trofimov estimate, both
halves in turn): it needs no correction, and contexts with too few samples show as a loss. This is the figure
to trust. Dependence between coefficients is not counted; a model that sees it could save more."""


@dataclass(frozen=True, slots=True)
class Entropies:
    """What one run counted."""

    class_bits: float
    """Entropy of token 0."""
    classes_seen: int
    entropy: Mapping[str, NDArray[np.float64]]
    """Per way of counting: bits of each token from 1 on, f64[N - 1]."""
    coded: Mapping[str, NDArray[np.float64]]
    """The same as the cost of a static code with tables from other pictures."""

    def prefix_bits(self, per_token: NDArray[np.float64], length: int) -> float:
        """Bits of the first `length` tokens; the class costs its entropy."""
        return self.class_bits + float(per_token[: length - 1].sum())

    def saving(self, per_token: NDArray[np.float64], length: int) -> float:
        """Share of a prefix's bits that need not be sent; negative where a code loses."""
        return 1 - self.prefix_bits(per_token, length) / (BITS_PER_TOKEN * length)

    def lengths(self) -> list[int]:
        """The listed byte counts that all pictures have."""
        available = 1 + min(len(values) for values in self.entropy.values())
        return [count for count in LISTED if count <= available]


def page(found: Entropies, title: str, picture_count: int, tokenizer: ImageTokenizer) -> str:
    """Markdown: savings per prefix, then bits per token along the stream."""
    parts = [
        heading(f"Entropy of tokens on {title}", "token_entropy", picture_count, tokenizer),
        _NOTE,
        f"Token 0: {number(found.class_bits)} of 8 bits, {found.classes_seen} classes seen.",
        "## What a static per-bit code would save\n\n" + _saving_table(found),
        "## Bits in a token, by where it stands\n\n" + _token_table(found),
        environment_line(),
    ]
    return "\n\n".join(parts) + "\n"


def _columns(found: Entropies) -> list[tuple[str, NDArray[np.float64]]]:
    return [
        (f"{way}: {kind}", values[way])
        for way in found.entropy
        for kind, values in (("entropy", found.entropy), ("coded", found.coded))
    ]


def _saving_table(found: Entropies) -> str:
    columns = _columns(found)
    rows = [
        [str(length), *(percent(found.saving(values, length)) for _, values in columns)]
        for length in found.lengths()
    ]
    return "Share of the prefix's bits.\n\n" + markdown_table(["bytes", *(name for name, _ in columns)], rows)


def _token_table(found: Entropies) -> str:
    columns = _columns(found)
    rows = [
        [f"{first} to {last - 1}", *(number(_mean(values, first, last)) for _, values in columns)]
        for first, last in pairwise([1, *found.lengths()])
    ]
    return "Mean bits per token, of 8.\n\n" + markdown_table(["tokens", *(name for name, _ in columns)], rows)


def _mean(per_token: NDArray[np.float64], first: int, last: int) -> float:
    """Mean over tokens first..last - 1; token 0 is not among the values."""
    return float(per_token[first - 1 : last - 1].mean())


def as_json(found: Entropies) -> dict[str, object]:
    """Savings and bits per token."""
    lengths = found.lengths()
    return {
        "byte_counts": lengths,
        "class_entropy_bits": round(found.class_bits, 4),
        "classes_seen": found.classes_seen,
        "prefix_bits": {
            name: [round(found.prefix_bits(values, length), 1) for length in lengths]
            for name, values in _columns(found)
        },
        "saving": {
            name: [round(found.saving(values, length), 5) for length in lengths]
            for name, values in _columns(found)
        },
        "token_bits": {name: _rounded(values) for name, values in _columns(found)},
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 3) for value in values]


def plot(found: Entropies, path: Path, *, title: str) -> None:
    """Bits per token along the stream, and the saving of each prefix."""
    with drawing(path, title, (15, 5.6)) as (token_axes, saving_axes):
        lengths = found.lengths()
        byte_ticks(token_axes, lengths)
        style_axes(token_axes, "Bits in a token, of 8 (mean since the point before)", "token", "")
        draw_lines(token_axes, [_token_line(found, *look) for look in _looks(found)])
        byte_ticks(saving_axes, lengths)
        saving_title = "What a static code would save, % (dashed: on pictures it was not fitted to)"
        style_axes(saving_axes, saving_title, "bytes per picture", "")
        draw_lines(saving_axes, [_saving_line(found, lengths, *look) for look in _looks(found)])
        saving_axes.axhline(0, color=MUTED, linewidth=0.8)


Look = tuple[str, NDArray[np.float64], str, str, float]


def _looks(found: Entropies) -> list[Look]:
    """Label, values, colour, style and width."""
    return [
        ("place: entropy", found.entropy["place"], PEER_COLOURS[1], "-", 1.6),
        ("meaning: entropy", found.entropy["meaning"], OURS_COLOUR, "-", 1.6),
        ("meaning: coded", found.coded["meaning"], OURS_COLOUR, "--", 2.4),
        ("class and meaning: entropy", found.entropy["class and meaning"], PEER_COLOURS[0], "-", 1.6),
        ("class and meaning: coded", found.coded["class and meaning"], PEER_COLOURS[0], "--", 1.6),
    ]


def _token_line(
    found: Entropies, label: str, values: NDArray[np.float64], colour: str, style: str, width: float
) -> Line:
    lengths = found.lengths()
    means = [_mean(values, first, last) for first, last in pairwise([1, *lengths])]
    return Line(label, lengths, means, colour, style, width)


def _saving_line(
    found: Entropies,
    lengths: Sequence[int],
    label: str,
    values: NDArray[np.float64],
    colour: str,
    style: str,
    width: float,
) -> Line:
    savings = [100 * found.saving(values, length) for length in lengths]
    return Line(label, lengths, savings, colour, style, width)
