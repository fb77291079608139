"""The range-coded form: wavelet pyramid <-> bytes of which every prefix decodes. Knows no network.

    plane by plane, thresholds T = 256, 128, 64, ...
      of what is not yet significant, likely ones first:  |c| >= T? sign (and octaves, if never asked before)
      of what was significant before the plane:           upper or lower half of its interval

Encoder and decoder run the same `scan`; only who knows the answers differs. What is asked, in which order
and with which odds follows from earlier answers in integers (contexts.py), so the bytes need no side
information but the spectrum class. The ideas are those of embedded zerotree and block coding (Shapiro 1993;
Said and Pearlman 1996; Taubman 2000), with a learned context model in place of trees and blocks.

Legend: n coefficients of the pyramid, K of them in one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokenizer.contexts import (
    OCTAVE,
    UNKNOWN_LOG,
    ContextModel,
    ContextTables,
    Neighbours,
    features,
    neighbours,
    relative_magnitude,
)
from tokenizer.wavelet import WaveletPyramid, pyramid

FIRST_THRESHOLD_LOG2 = 8
# A plane asks in three passes, likely coefficients first: each pass learns from the one before.
LEAST_ODDS = (9830, 1966, 197)
# Not asked again in the plane: what was this unlikely would have to double to be asked.
HOPELESS_ODDS = 100
# Beyond three octaves below the threshold, neighbours and all, nothing is worth asking.
REACH_LOG = 3 * OCTAVE
# A coefficient below T is guessed at 0.3 T, a new one at 1.41 T; one refinement moves it to 1.25 or 1.75.
BELOW_LOG, NEW_LOG, LOWER_LOG, UPPER_LOG = -28, 8, 5, 13

Indices = NDArray[np.int64]


def num_planes(size: int) -> int:
    """Planes of a pyramid of n coefficients: in the end n errors of T are less than rounding to 8 bits."""
    return FIRST_THRESHOLD_LOG2 + 3 + (size.bit_length() + 1) // 2


def threshold(plane: int) -> float:
    """T of a plane, in pixel values over sqrt(area): exact, a power of two."""
    return float(2.0 ** (FIRST_THRESHOLD_LOG2 - plane))


def threshold_log(plane: int) -> int:
    """log2 T in 1/16 octave."""
    return OCTAVE * (FIRST_THRESHOLD_LOG2 - plane)


@dataclass(frozen=True, slots=True)
class Answers:
    """What one significance pass settled: for the first `count` coefficients that were asked."""

    is_new: NDArray[np.bool_]
    is_negative: NDArray[np.bool_]
    excess: NDArray[np.int64]
    """Octaves between T and the new coefficient's interval."""


Watch = Callable[[Indices, NDArray[np.float32], NDArray[np.int32], int], None]
"""Coefficients about to be asked, their features f32[K, F], their odds, the plane."""


class Oracle(Protocol):
    """Who answers: the encoder sees the picture, the decoder bits. Fewer answers than asked are the end."""

    def significance(self, state: State, at: Indices, odds: NDArray[np.int32], plane: int) -> Answers:
        """Which of the coefficients `at` reach the plane's threshold."""

    def refinement(self, state: State, at: Indices, odds: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which lie in the upper half of their interval."""


class State:
    """What both sides know of every coefficient; changes as answers come in."""

    def __init__(self, block: tuple[int, int], own_log: NDArray[np.int32]) -> None:
        n = len(own_log)
        self.tree: WaveletPyramid = pyramid(block)
        self.who: Neighbours = neighbours(block)
        self.own_log = own_log
        self.known_log = own_log + UNKNOWN_LOG
        self.relative = relative_magnitude(np.full(n, UNKNOWN_LOG, np.int32))
        self.is_found = np.zeros(n, np.bool_)
        self.is_negative = np.zeros(n, np.bool_)
        self.asked_plane = np.full(n, -1, np.int8)
        self.low, self.width = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.refinements = np.zeros(n, np.int8)

    def candidates(self, plane: int) -> Indices:
        """Not yet found, and not hopelessly far below the threshold, their surroundings counted."""
        reach = [_spread(view) for view in self.tree.views(self.known_log)]
        for i in range(2, len(reach)):
            np.maximum(reach[i], reach[i - 1].repeat(2, -1).repeat(2, -2), out=reach[i])
        flat = np.concatenate([r.reshape(-1) for r in reach])
        return np.flatnonzero(~self.is_found & (flat >= threshold_log(plane) - REACH_LOG))

    def settle(self, at: Indices, answers: Answers, plane: int) -> None:
        """Take in a significance pass."""
        at = at[: len(answers.is_new)]
        new, rest = at[answers.is_new], at[~answers.is_new]
        excess = answers.excess[answers.is_new]
        self.is_found[new] = True
        self.is_negative[new] = answers.is_negative[answers.is_new]
        self.low[new] = self.width[new] = threshold(plane) * np.exp2(excess)
        self.asked_plane[at] = plane
        self._know(new, (threshold_log(plane) + OCTAVE * excess + NEW_LOG).astype(np.int32))
        below = np.minimum(self.own_log[rest] + UNKNOWN_LOG, threshold_log(plane) + BELOW_LOG)
        self._know(rest, below)

    def refine(self, at: Indices, is_upper: NDArray[np.bool_]) -> None:
        """Take in a refinement pass."""
        at = at[: len(is_upper)]
        first = self.refinements[at] == 0
        step = np.where(is_upper, UPPER_LOG, LOWER_LOG) - NEW_LOG
        self._know(at[first], self.known_log[at[first]] + step[first].astype(np.int32))
        self.width[at] *= np.float32(0.5)
        self.low[at] += np.where(is_upper, self.width[at], np.float32(0))
        self.refinements[at] += 1

    def _know(self, at: Indices, log: NDArray[np.int32]) -> None:
        self.known_log[at] = log
        self.relative[at] = relative_magnitude(log - self.own_log[at])

    def values(self, at: Indices, fraction: NDArray[np.float32]) -> NDArray[np.float32]:
        """Signed reconstruction of found coefficients."""
        depth = np.minimum(self.refinements[at], len(fraction) - 1)
        magnitude = self.low[at] + fraction[depth] * self.width[at]
        return np.where(self.is_negative[at], -magnitude, magnitude)

    def expected_error(self) -> float:
        """Squared error that is left, by rule of thumb: what the decoder network is told."""
        found = np.square(self.width[self.is_found].astype(np.float64)).sum() / 12
        unsent = np.exp2((self.known_log[~self.is_found] - UNKNOWN_LOG) / (OCTAVE / 2)).sum()
        return float(found + unsent)


def _spread(log: NDArray[np.int32]) -> NDArray[np.int32]:
    """Largest of each value and its four neighbours."""
    out = log.copy()
    for a, b in ((np.s_[..., 1:, :], np.s_[..., :-1, :]), (np.s_[..., :, 1:], np.s_[..., :, :-1])):
        np.maximum(out[a], log[b], out=out[a])
        np.maximum(out[b], log[a], out=out[b])
    return out


def scan(
    state: State, model: ContextModel, tables: ContextTables, oracle: Oracle, watch: Watch | None = None
) -> None:
    """Ask until the oracle has no more answers, or every plane is done; `watch` sees what odds come from."""
    for plane in range(num_planes(state.tree.size)):
        found = np.flatnonzero(state.is_found)
        left = state.candidates(plane)
        for number, least in enumerate(LEAST_ODDS):
            if len(left):
                known = features(state.relative, state.own_log, left, state.who, threshold_log(plane))
                odds = model.odds(known, state.who.category[left])
                if watch:
                    watch(left, known, odds, plane)
                if not _significance(state, oracle, left[odds >= least], odds[odds >= least], plane):
                    return
                left = left[(odds < least) & (odds >= HOPELESS_ODDS)]
            if number == 0 and not _refinement(state, oracle, tables, found):
                return


def _significance(state: State, oracle: Oracle, at: Indices, odds: NDArray[np.int32], plane: int) -> bool:
    likely_first = np.argsort(-odds, kind="stable")
    at, odds = at[likely_first], odds[likely_first]
    answers = oracle.significance(state, at, odds, plane)
    state.settle(at, answers, plane)
    return len(answers.is_new) == len(at)


def _refinement(state: State, oracle: Oracle, tables: ContextTables, at: Indices) -> bool:
    depth = np.minimum(state.refinements[at], len(tables.refinement_odds) - 1)
    is_upper = oracle.refinement(state, at, tables.refinement_odds[depth])
    state.refine(at, is_upper)
    return len(is_upper) == len(at)


def max_excess(state: State, at: Indices, plane: int) -> NDArray[np.int64]:
    """Octaves that a new coefficient may lie beyond [T, 2 T): none if the plane before asked for it."""
    return plane - 1 - state.asked_plane[at].astype(np.int64)
