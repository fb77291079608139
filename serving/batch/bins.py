"""Bins of the histograms: lengths by half octaves, decibels by halves. A bin is named by its lower end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

PSNR_STEP_DB = 0.5
# A flat picture is predicted at hundreds of decibels.
_MAX_DB = 60.0
# A chart of one bin would be one block of colour: so many are shown with empty ones beside them.
_FEW_BINS, _BESIDE = 5, 2


def length_bin_tokens(length: int) -> int:
    """Lower end of the bin: 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32 ...

    >>> [length_bin_tokens(length) for length in (0, 1, 3, 5, 6, 100, 256)]
    [0, 1, 3, 4, 6, 96, 256]
    """
    octave = 1 << max(0, length.bit_length() - 1)
    middle = octave + octave // 2
    return min(length, middle if length >= middle else octave)


def next_length_bin_tokens(low: int) -> int:
    """Upper end of the bin that begins at `low`; not in it.

    >>> [next_length_bin_tokens(low) for low in (0, 1, 2, 3, 96, 128)]
    [1, 2, 3, 4, 128, 192]
    """
    octave = 1 << max(0, low.bit_length() - 1)
    middle = octave + octave // 2
    return low + 1 if low < 2 else middle if low < middle else 2 * octave


def psnr_bin_db(expected_db: float) -> float:
    """Lower end of the bin.

    >>> psnr_bin_db(24.74), psnr_bin_db(312.0)
    (24.5, 60.0)
    """
    return PSNR_STEP_DB * int(min(expected_db, _MAX_DB) / PSNR_STEP_DB)


def count(bins: dict[str, int], low: float) -> None:
    """One more in the bin."""
    name = f"{low:g}"
    bins[name] = bins.get(name, 0) + 1


def length_rows(bins: Mapping[str, int]) -> list[dict[str, Any]]:
    """For report.json: both ends of every bin, and its pictures."""
    return [
        {"from_tokens": low, "below_tokens": next_length_bin_tokens(low), "pictures": pictures}
        for low, pictures in sorted((int(name), pictures) for name, pictures in bins.items())
    ]


def psnr_rows(bins: Mapping[str, int]) -> list[dict[str, Any]]:
    """The same of predicted quality; the last bin has no upper end."""
    return [
        {"from_db": low, "below_db": low + PSNR_STEP_DB if low < _MAX_DB else None, "pictures": pictures}
        for low, pictures in sorted((float(name), pictures) for name, pictures in bins.items())
    ]


def length_edges(bins: Mapping[str, int]) -> list[int]:
    """Edges of all bins from the lowest to the highest, empty ones, too; of few bins with some beside them.

    >>> length_edges({"256": 9})
    [128, 192, 256, 384, 512, 768]
    """
    lows = sorted(map(int, bins)) or [0]
    edges = [0]
    while edges[-1] <= lows[-1]:
        edges.append(next_length_bin_tokens(edges[-1]))
    first = edges.index(lows[0])
    if len(edges) - first > _FEW_BINS:
        return edges[first:]
    for _ in range(_BESIDE):
        edges.append(next_length_bin_tokens(edges[-1]))
    return edges[max(0, first - _BESIDE) :]


def psnr_edges(bins: Mapping[str, int]) -> list[float]:
    """The same of predicted quality, from a whole decibel on.

    >>> psnr_edges({"24.5": 9})
    [23.0, 23.5, 24.0, 24.5, 25.0, 25.5, 26.0]
    """
    lows = sorted(map(float, bins)) or [0.0]
    low, high = math.floor(lows[0]), lows[-1] + PSNR_STEP_DB
    if (high - low) / PSNR_STEP_DB <= _FEW_BINS:
        low, high = max(0, low - 1), high + 1
    return [low + step * PSNR_STEP_DB for step in range(round((high - low) / PSNR_STEP_DB) + 1)]
