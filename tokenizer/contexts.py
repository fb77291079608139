"""How likely a coefficient is to be significant, from what is known around it: integers only.

    neighbours' magnitudes, in their own sigmas  → log2, 1/16 octave, over the threshold
                                                 → one hidden layer → odds of 65536

Knows no bits. Both sides of the wire must agree to the last one, so weights and activations are integers. No
sum reaches 2^24, so that a port may multiply in float32, too.

Legend: n coefficients, F features, H hidden units, T categories; for signs K taps, S hidden units, U
categories (see signs.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokenizer.compiled import compiled
from tokenizer.errors import ArtifactError
from tokenizer.range_coder import ONE, PROBABILITY_BITS
from tokenizer.surroundings import NUM_GROUPS, category_count

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
# float32 adds whole numbers below this exactly, in any order: no sum may reach it.
EXACT_BELOW = 2**24
LEAST_ODDS = 16
# What tells of a sign: four neighbours, five of each other orientation, two colours, three parents, four
# around the own one; by colour, diagonal or not, and place among the parent's children. In 1/8 of the
# threshold, at most 3 of it.
NUM_TAPS, NUM_SIGN_CATEGORIES = 4 + 2 * 5 + 2 + 3 + 4, 3 * 2 * 4
TAP_ONE, TAP_LIMIT = 8, 24


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
    sign_first: NDArray[np.int16]
    """Neighbours to hidden units of the network for signs, i16[K, S]."""
    sign_bias: NDArray[np.int32]
    """Per category, i32[U, S]."""
    sign_second: NDArray[np.int16]
    """Hidden units to the logit of a negative sign, i16[S]."""
    sign_shifts: NDArray[np.int32]
    """As `shifts`."""

    def __post_init__(self) -> None:
        """Raises ArtifactError: compiled code trusts shapes, and would read what lies behind an array."""
        hidden = self.second.size
        shapes = {
            "first": (NUM_FEATURES, hidden),
            "first_bias": (category_count(), hidden),
            "second": (hidden,),
            "second_bias": (category_count(),),
            "shifts": (2,),
            "refinement_odds": (NUM_DEPTHS,),
            "fraction": (NUM_DEPTHS,),
            "sign_first": (NUM_TAPS, self.sign_second.size),
            "sign_bias": (NUM_SIGN_CATEGORIES, self.sign_second.size),
            "sign_second": (self.sign_second.size,),
            "sign_shifts": (2,),
        }
        wrong = {
            name: getattr(self, name).shape
            for name, one in shapes.items()
            if getattr(self, name).shape != one
        }
        if wrong:
            raise ArtifactError(f"context tables of {hidden} hidden units have wrong shapes: {wrong}")
        if not ((self.refinement_odds > 0) & (self.refinement_odds < ONE)).all():
            raise ArtifactError(f"odds must be in 1..{ONE - 1}, got {self.refinement_odds.tolist()}")
        shifts = np.concatenate((self.shifts, self.sign_shifts))
        if not ((shifts >= 0) & (shifts < 31)).all() or not np.isfinite(self.fraction).all():
            raise ArtifactError(f"shifts must be in 0..30 and fractions finite, got {shifts.tolist()}")


# A coefficient's own sigma, and a feature of each group of neighbours.
NUM_FEATURES = 1 + NUM_GROUPS
# How many refinements the tables tell apart.
NUM_DEPTHS = 4
# log2 of each group's size in 1/16 octave, as surroundings.py lists and sums them.
_GROUP_LOGS = (2 * OCTAVE, 2 * OCTAVE, 0, OCTAVE, OCTAVE, 2 * OCTAVE)


# 2^(k / 16) in units of 1/64 sigma, k from MIN_RELATIVE_LOG on.
_POWERS = np.asarray(
    [max(1, round(2 ** (SIGMA_BITS + k / OCTAVE))) for k in range(MIN_RELATIVE_LOG, MAX_RELATIVE_LOG + 1)],
    np.int32,
)
# Logarithm of every sum of up to four magnitudes; 0 never occurs.
_LOGS = np.floor(np.log2(np.arange(1, 4 * int(_POWERS[-1]) + 1)) * OCTAVE + 0.5).astype(np.int32)
LIMIT = MAX_LOGIT << LOGIT_BITS
# Odds of every logit from -LIMIT to LIMIT.
_SIGMOID = np.asarray(
    [
        min(
            ONE - LEAST_ODDS,
            max(LEAST_ODDS, round(ONE / (1 + 2.718281828459045 ** (-k / (1 << LOGIT_BITS))))),
        )
        for k in range(-LIMIT, LIMIT + 1)
    ],
    np.int32,
)
assert PROBABILITY_BITS == 16


class ContextModel(NamedTuple):
    """Tables as compiled code reads them, all i32."""

    first: NDArray[np.int32]
    first_bias: NDArray[np.int32]
    second: NDArray[np.int32]
    second_bias: NDArray[np.int32]
    shifts: NDArray[np.int32]
    refinement_odds: NDArray[np.int32]
    sign_first: NDArray[np.int32]
    sign_bias: NDArray[np.int32]
    sign_second: NDArray[np.int32]
    sign_shifts: NDArray[np.int32]
    powers: NDArray[np.int32]
    logs: NDArray[np.int32]
    sigmoid: NDArray[np.int32]

    @classmethod
    def of(cls, tables: ContextTables) -> ContextModel:
        """The network of some tables."""
        layers = ("first", "first_bias", "second", "second_bias", "shifts")
        signs = ("sign_first", "sign_bias", "sign_second", "sign_shifts")
        names = (*layers, *signs, "refinement_odds")
        own = {name: np.ascontiguousarray(getattr(tables, name), np.int32) for name in names}
        return cls(**own, powers=_POWERS, logs=_LOGS, sigmoid=_SIGMOID)


class Memo(NamedTuple):
    """Odds by features."""

    keys: NDArray[np.int64]
    odds: NDArray[np.int32]


_MEMO_SIZE = 1 << 15


def new_memo() -> Memo:
    """An empty memo."""
    return Memo(np.full(_MEMO_SIZE, -1, np.int64), np.empty(_MEMO_SIZE, np.int32))


@compiled
def relative_magnitude(model: ContextModel, log: int) -> int:
    """2^(log / 16) in units of 1/64 sigma."""
    magnitude: int = model.powers[min(max(log, MIN_RELATIVE_LOG), MAX_RELATIVE_LOG) - MIN_RELATIVE_LOG]
    return magnitude


@compiled
def read_features(model: ContextModel, sums: NDArray[np.int32], own: int, at: int) -> int:
    """What is known around a coefficient: F features of 8 bits in one number, the first one on top.

    `own` is its log2 sigma over the threshold in 1/16 octave, `sums` i32[G, n] what is known of each group of
    its neighbours in 1/64 sigma: their magnitudes count in their own sigmas and are brought to this
    coefficient's.
    """
    packed = min(max(own, FEATURE_MIN), FEATURE_MAX) - FEATURE_MIN
    for group in range(NUM_GROUPS):
        log = own + model.logs[sums[group, at] - 1] - _GROUP_LOGS[group] - OCTAVE * SIGMA_BITS
        packed = packed << 8 | (min(max(log, FEATURE_MIN), FEATURE_MAX) - FEATURE_MIN)
    return packed


@compiled
def feature(packed: int, number: int) -> int:
    """One of the features, in 1/16 octave."""
    return ((packed >> (8 * (NUM_FEATURES - 1 - number))) & 0xFF) + FEATURE_MIN


@compiled
def odds_of(model: ContextModel, packed: int, category: int) -> int:
    """Odds of being significant, of 65536, in 16..65520."""
    shift = model.shifts[0]
    total = np.int32(model.second_bias[category])
    # The casts keep numba at 32 bits, of which a register holds twice as many as of 64.
    for h in range(len(model.second)):
        unit = model.first_bias[category, h]
        for f in range(NUM_FEATURES):
            unit = np.int32(unit + np.int32(np.int32(feature(packed, f)) * model.first[f, h]))
        unit = min(max(np.int32(unit >> shift), np.int32(0)), np.int32(HIDDEN_MAX))
        total = np.int32(total + np.int32(unit * model.second[h]))
    odds: int = model.sigmoid[min(max(total >> model.shifts[1], -LIMIT), LIMIT) + LIMIT]
    return odds


@compiled
def remembered_odds(model: ContextModel, memo: Memo, packed: int, category: int) -> int:
    """`odds_of`, worked out once for features that come up again: in flat parts the same ones do."""
    key = packed << 6 | category  # 62 bits
    # Fibonacci hashing (Knuth, TAOCP 3, 6.4): the top bits of a product with 2^64 over the golden ratio.
    slot = (key * np.int64(-7046029254386353131) >> 40) & (_MEMO_SIZE - 1)
    if memo.keys[slot] != key:
        memo.keys[slot] = key
        memo.odds[slot] = odds_of(model, packed, category)
    odds: int = memo.odds[slot]
    return odds
