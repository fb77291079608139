"""How likely a coefficient is to be significant, from what is known around it: integers only.

    neighbours' magnitudes, in their own sigmas  → log2, 1/16 octave, over the threshold
                                                 → one hidden layer → odds of 65536

Knows no bits. Both sides of the wire must agree to the last one, so weights and activations are integers.
They are multiplied in float32 nonetheless: while no sum reaches 2^24, that is exact in any order, and fast.

Legend: n coefficients, K of them asked at once, F features, H hidden units, T categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tokenizer.range_coder import ONE, PROBABILITY_BITS
from tokenizer.wavelet import MAX_SPLITS, Band, pyramid

# Logarithms are in 1/16 octave.
OCTAVE = 16
# A magnitude in sigmas is a fixed-point number of 6 fractional bits, at most 256 sigmas.
SIGMA_BITS = 6
MAX_RELATIVE_LOG = 8 * OCTAVE
MIN_RELATIVE_LOG = -6 * OCTAVE
FEATURE_MIN, FEATURE_MAX = -7 * OCTAVE, 5 * OCTAVE
# Mean magnitude of what nothing is known of: 0.6 sigma (between Gauss, 0.8, and sparser fields).
UNKNOWN_LOG = -12
LOGIT_BITS = 6
MAX_LOGIT = 11
HIDDEN_MAX = 1023
# float32 adds whole numbers below this exactly, in any order.
EXACT_BELOW = 2**24
LEAST_ODDS = 16


@dataclass(frozen=True, slots=True, eq=False)
class ContextTables:
    """Fitted integers of the context model, and what a coefficient is reconstructed as."""

    first: NDArray[np.int16]
    """Features to hidden units, i16[F, H]."""
    first_bias: NDArray[np.int32]
    """Per category, i32[T, H]."""
    second: NDArray[np.int16]
    """Hidden units to the logit, i16[H]."""
    second_bias: NDArray[np.int32]
    """Per category, i32[T]."""
    shifts: NDArray[np.int32]
    """Bits that each layer's sums are shifted right by, i32[2]."""
    refinement_odds: NDArray[np.int32]
    """Odds of the upper half after 0, 1, 2, ... refinements, i32[4], the last one for all later ones."""
    fraction: NDArray[np.float32]
    """Where between the ends of its interval a coefficient is put, after 0, 1, ... refinements, f32[4]."""


NUM_FEATURES = 6
_EDGES = ((0, 1), (0, -1), (1, 0), (-1, 0))
_CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def category_count() -> int:
    """Categories: band depth x colour x (diagonal or not)."""
    return (MAX_SPLITS + 1) * 3 * 2


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """For every coefficient of a pyramid, who tells about it: five groups of flat indices."""

    groups: tuple[NDArray[np.int32], ...]
    """i32[4 | 4 | 1 | 2 | 2, n]: next to it, cornerwise, parent, other orientations, other colours."""
    category: NDArray[np.int32]
    """i32[n]."""


@lru_cache(maxsize=8)
def neighbours(block: tuple[int, int]) -> Neighbours:
    """Neighbours in the pyramid of a block; at a border the coefficient stands for who is missing."""
    tree = pyramid(block)
    ids = tree.views(np.arange(tree.size, dtype=np.int32))
    parts = [_band_neighbours(ids, i) for i in range(len(ids))]
    groups = tuple(np.concatenate([part[g] for part in parts], axis=1) for g in range(5))
    category = np.concatenate([_categories(band) for band in tree.bands])
    return Neighbours(groups, category)


def _band_neighbours(ids: list[NDArray[np.int32]], i: int) -> list[NDArray[np.int32]]:
    own = ids[i]
    colours = [np.roll(own, -step, axis=0) for step in (1, 2)]
    turned = [np.roll(own, -step, axis=1) for step in (1, 2)] if own.ndim == 4 else [own, own]
    parent = ids[i - 1].repeat(2, -1).repeat(2, -2) if i >= 2 else own
    found = (
        [_shifted(own, *step) for step in _EDGES],
        [_shifted(own, *step) for step in _CORNERS],
        [parent],
        turned,
        colours,
    )
    return [np.stack([one.reshape(-1) for one in group]) for group in found]


def _shifted(ids: NDArray[np.int32], down: int, across: int) -> NDArray[np.int32]:
    rows = np.clip(np.arange(ids.shape[-2]) + down, 0, ids.shape[-2] - 1)
    columns = np.clip(np.arange(ids.shape[-1]) + across, 0, ids.shape[-1] - 1)
    return ids[..., rows[:, None], columns]


def _categories(band: Band) -> NDArray[np.int32]:
    depth = MAX_SPLITS if band.is_cosine else band.depth
    colour = np.arange(3).reshape(-1, *[1] * (len(band.shape) - 1))
    diagonal = np.zeros(1, np.int64) if band.is_cosine else (np.arange(3) == 2).reshape(1, 3, 1, 1)
    category = (depth * 3 + colour) * 2 + diagonal
    return np.broadcast_to(category, band.shape).reshape(-1).astype(np.int32)


def relative_magnitude(log: NDArray[np.int32]) -> NDArray[np.int32]:
    """2^(log / 16) in units of 1/64 sigma, from a table of whole numbers."""
    return _POWERS[np.clip(log, MIN_RELATIVE_LOG, MAX_RELATIVE_LOG) - MIN_RELATIVE_LOG]


_POWERS = np.asarray(
    [max(1, round(2 ** (SIGMA_BITS + k / OCTAVE))) for k in range(MIN_RELATIVE_LOG, MAX_RELATIVE_LOG + 1)],
    np.int32,
)
# Logarithm of every sum of up to four magnitudes; 0 never occurs.
_LOGS = np.floor(np.log2(np.arange(1, 4 * int(_POWERS[-1]) + 1)) * OCTAVE + 0.5).astype(np.int16)


def features(
    relative: NDArray[np.int32],
    own_log: NDArray[np.int32],
    at: NDArray[np.int64],
    who: Neighbours,
    threshold_log: int,
) -> NDArray[np.float32]:
    """What is known around the coefficients `at`: whole numbers, f32[K, F].

    `relative` are all known magnitudes in 1/64 sigma, `own_log` all log2 sigmas in 1/16 octave. A neighbour's
    magnitude counts in its own sigmas and is brought to this coefficient's.
    """
    own = own_log[at] - threshold_log
    out = np.empty((len(at), NUM_FEATURES), np.float32)
    out[:, 0] = own
    for column, group in enumerate(who.groups, start=1):
        total = relative[group[0][at]]
        for member in group[1:]:
            total += relative[member[at]]
        count_log = OCTAVE * (len(group).bit_length() - 1)
        out[:, column] = own + _LOGS[total - 1] - (count_log + OCTAVE * SIGMA_BITS)
    return np.clip(out, FEATURE_MIN, FEATURE_MAX, out=out)


class ContextModel:
    """Features and category -> odds, for one set of tables."""

    def __init__(self, tables: ContextTables) -> None:
        self._first, self._second = tables.first.astype(np.float32), tables.second.astype(np.float32)
        self._first_bias = tables.first_bias.astype(np.float32)
        self._second_bias = tables.second_bias.astype(np.float32)
        self._scales = [np.float32(2.0 ** -int(shift)) for shift in tables.shifts]

    def odds(self, features_KF: NDArray[np.float32], category: NDArray[np.int32]) -> NDArray[np.int32]:
        """Odds of being significant, of 65536, i32[K] in 16..65520."""
        logit = np.empty(len(category), np.float32)
        for start in range(0, len(category), _BLOCK):
            part = slice(start, start + _BLOCK)
            logit[part] = self._logit(features_KF[part], category[part])
        limit = MAX_LOGIT << LOGIT_BITS
        return _SIGMOID[np.clip(logit, -limit, limit).astype(np.int32) + limit]

    def _logit(self, features_KF: NDArray[np.float32], category: NDArray[np.int32]) -> NDArray[np.float32]:
        hidden = features_KF @ self._first
        hidden += self._first_bias[category]
        hidden *= self._scales[0]
        np.floor(hidden, out=hidden)
        np.clip(hidden, 0, HIDDEN_MAX, out=hidden)
        # Not `@`: BLAS would wake its threads for a product this small, too.
        sums: NDArray[np.float32] = np.einsum("kh,h->k", hidden, self._second)
        logit: NDArray[np.float32] = np.floor((sums + self._second_bias[category]) * self._scales[1])
        return logit


# Rows whose hidden units stay in a core's cache, and few enough that BLAS multiplies them on one thread: a
# pool of threads woken for each of hundreds of small products took seconds where a core was busy.
_BLOCK = 1024
_SIGMOID = np.asarray(
    [
        min(
            ONE - LEAST_ODDS,
            max(LEAST_ODDS, round(ONE / (1 + 2.718281828459045 ** (-k / (1 << LOGIT_BITS))))),
        )
        for k in range(-(MAX_LOGIT << LOGIT_BITS), (MAX_LOGIT << LOGIT_BITS) + 1)
    ],
    np.int32,
)
assert PROBABILITY_BITS == 16
