"""The range-coded form: wavelet pyramid <-> bytes of which every prefix decodes. Knows no network.

    plane by plane, thresholds T = 256, 128, 64, ...
      of what is not yet significant, likely ones first:  |c| >= T? sign (and octaves, if never asked before)
      of what was significant before the plane:           upper or lower half of its interval

Encoder and decoder run the same `scan`; only who knows the answers differs. What is asked, in which order
and with which odds follows from earlier answers in integers (contexts.py), so the bytes need no side
information but the spectrum class. The ideas are those of embedded zerotree and block coding (Shapiro 1993;
Said and Pearlman 1996; Taubman 2000), with a learned context model in place of trees and blocks.

Legend: n coefficients of the pyramid, F features, Q questions, P passes, S signs, K taps (see signs.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokenizer.answers import Oracle
from tokenizer.compiled import compiled
from tokenizer.contexts import (
    NUM_FEATURES,
    NUM_TAPS,
    OCTAVE,
    UNKNOWN_LOG,
    ContextModel,
    feature,
    relative_magnitude,
)
from tokenizer.range_coder import ONE, Register, register
from tokenizer.surroundings import Indices, spread, surroundings

FIRST_THRESHOLD_LOG2 = 8
# A plane asks in three passes, likely coefficients first: each pass learns from the one before.
LEAST_ODDS = (9830, 1966, 197)
# Not asked again in the plane: what was this unlikely would have to double to be asked.
HOPELESS_ODDS = 100
# Beyond three octaves below the threshold, neighbours and all, nothing is worth asking.
REACH_LOG = 3 * OCTAVE
# A coefficient below T is guessed at 0.3 T, a new one at 1.41 T; one refinement moves it to 1.25 or 1.75.
BELOW_LOG, NEW_LOG, LOWER_LOG, UPPER_LOG = -28, 8, 5, 13


def num_planes(size: int) -> int:
    """Planes of a pyramid of n coefficients: in the end n errors of T are less than rounding to 8 bits."""
    return FIRST_THRESHOLD_LOG2 + 3 + (size.bit_length() + 1) // 2


@compiled
def threshold(plane: int) -> float:
    """T of a plane, in pixel values over sqrt(area): exact, a power of two."""
    return 2.0 ** (FIRST_THRESHOLD_LOG2 - plane)


@compiled
def threshold_log(plane: int) -> int:
    """log2 T in 1/16 octave."""
    return OCTAVE * (FIRST_THRESHOLD_LOG2 - plane)


class State(NamedTuple):
    """What both sides know of every coefficient; changes as answers come in. Columns but the first have n
    places."""

    bands: Indices
    """See `surroundings.Surroundings`, as for the next."""
    category: Indices
    own_log: Indices
    """log2 sigma in 1/16 octave."""
    known_log: Indices
    """log2 of the magnitude, as far as it is known."""
    relative: Indices
    """The same in 1/64 sigma."""
    is_found: NDArray[np.bool_]
    is_negative: NDArray[np.bool_]
    asked_plane: NDArray[np.int8]
    low: NDArray[np.float32]
    """Lower end of a found coefficient's interval."""
    width: NDArray[np.float32]
    refinements: NDArray[np.int8]


def new_state(block: tuple[int, int], own_log: Indices, model: ContextModel) -> State:
    """What is known before the first answer."""
    n, around = len(own_log), surroundings(block)
    return State(
        around.bands,
        around.category,
        own_log,
        own_log + np.int32(UNKNOWN_LOG),
        np.full(n, relative_magnitude(model, UNKNOWN_LOG), np.int32),
        np.zeros(n, np.bool_),
        np.zeros(n, np.bool_),
        np.full(n, -1, np.int8),
        np.zeros(n, np.float32),
        np.zeros(n, np.float32),
        np.zeros(n, np.int8),
    )


def values(state: State, at: NDArray[np.int64], fraction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signed reconstruction of found coefficients."""
    depth = np.minimum(state.refinements[at], len(fraction) - 1)
    magnitude = state.low[at] + fraction[depth] * state.width[at]
    return np.where(state.is_negative[at], -magnitude, magnitude)


@compiled
def expected_error(state: State) -> float:
    """Squared error that is left, by rule of thumb: what the decoder network is told."""
    found, unsent = 0.0, 0.0
    for at in range(len(state.own_log)):
        if state.is_found[at]:
            found += np.float64(state.width[at]) * np.float64(state.width[at])
        else:
            unsent += 2.0 ** ((state.known_log[at] - UNKNOWN_LOG) / (OCTAVE / 2))
    return found / 12 + unsent


class Watch(NamedTuple):
    """What training sees of a scan; columns without places are not filled."""

    features: Indices
    """A random sample of the questions, i32[Q, F]."""
    category: Indices
    is_new: NDArray[np.bool_]
    num_questions: Register
    """Questions so far, those outside the sample counted."""
    taps: NDArray[np.int8]
    """The first signs, as far as there is room, and what is known around each, i8[S, K]."""
    sign_category: NDArray[np.int8]
    is_negative: NDArray[np.bool_]
    num_signs: Register
    pass_bits: NDArray[np.float64]
    """Bits written before each pass, f64[P]."""
    pass_error: NDArray[np.float64]
    """Squared error expected then, f64[P]."""
    num_passes: Register


def watch(num_questions: int = 0, num_passes: int = 0, num_signs: int = 0) -> Watch:
    """Room for a sample of questions, for passes, and for signs."""
    return Watch(
        features=np.empty((num_questions, NUM_FEATURES), np.int32),
        category=np.empty(num_questions, np.int32),
        is_new=np.empty(num_questions, np.bool_),
        num_questions=register(0),
        taps=np.empty((num_signs, NUM_TAPS), np.int8),
        sign_category=np.empty(num_signs, np.int8),
        is_negative=np.empty(num_signs, np.bool_),
        num_signs=register(0),
        pass_bits=np.empty(num_passes),
        pass_error=np.empty(num_passes),
        num_passes=register(0),
    )


@compiled
def know(state: State, model: ContextModel, at: int, log: int) -> None:
    """A coefficient's magnitude is about 2^(log / 16)."""
    state.known_log[at] = log
    state.relative[at] = relative_magnitude(model, log - state.own_log[at])


@compiled
def settle(state: State, model: ContextModel, at: int, answer: int, plane: int) -> None:
    """Take in an answer on significance."""
    state.asked_plane[at] = plane
    if answer == 0:
        log = min(state.own_log[at] + UNKNOWN_LOG, threshold_log(plane) + BELOW_LOG)
        know(state, model, at, log)
        return
    octaves = abs(answer) - 1
    state.is_found[at] = True
    state.is_negative[at] = answer < 0
    state.low[at] = state.width[at] = threshold(plane - octaves)
    know(state, model, at, threshold_log(plane) + OCTAVE * octaves + NEW_LOG)


@compiled
def refine(state: State, model: ContextModel, at: int, is_upper: int) -> None:
    """Take in which half of its interval a coefficient lies in."""
    if state.refinements[at] == 0:
        know(state, model, at, state.known_log[at] - NEW_LOG + (UPPER_LOG if is_upper else LOWER_LOG))
    state.width[at] *= np.float32(0.5)
    if is_upper:
        state.low[at] += state.width[at]
    state.refinements[at] += 1


@compiled
def list_candidates(state: State, plane: int, reach: Indices, out: Indices) -> int:
    """Into `out`, rising, and how many: what is not found, and not hopelessly far below the threshold, its
    surroundings counted. `reach` is room for n numbers."""
    spread(state.bands, state.known_log, reach)
    least, count = threshold_log(plane) - REACH_LOG, 0
    for at in range(len(reach)):
        if reach[at] >= least and not state.is_found[at]:
            out[count] = at
            count += 1
    return count


@compiled
def list_found(state: State, out: Indices) -> int:
    """Into `out`, rising, and how many: what is found."""
    count = 0
    for at in range(len(state.is_found)):
        if state.is_found[at]:
            out[count] = at
            count += 1
    return count


@compiled
def sort_likely_first(odds: Indices, order: Indices, spare: Indices, counts: Indices) -> None:
    """Into `order`, indices by falling odds, ties by rising index: by the low byte, then stably by the high
    one. `spare` is room for as many numbers, `counts` for 257. Odds must be in 1..ONE - 1."""
    count = len(odds)
    _start_of_bytes(odds, 0, counts)
    for i in range(count):
        byte = (ONE - odds[i]) & 0xFF
        spare[counts[byte]] = i
        counts[byte] += 1
    _start_of_bytes(odds, 8, counts)
    for i in spare[:count]:
        byte = (ONE - odds[i]) >> 8
        order[counts[byte]] = i
        counts[byte] += 1


@compiled
def _start_of_bytes(odds: Indices, shift: int, counts: Indices) -> None:
    """Into `counts`, how many have a smaller value in this byte of ONE - odds, for each value."""
    counts[:] = 0
    for i in range(len(odds)):
        counts[((ONE - odds[i]) >> shift & 0xFF) + 1] += 1
    for value in range(1, len(counts)):
        counts[value] += counts[value - 1]


@compiled
def keep_question(seen: Watch, features: int, category: int, is_new: bool) -> None:
    """Reservoir sampling: each question is kept with the same chance (Vitter 1985)."""
    number, room = seen.num_questions[0], len(seen.category)
    place = number if number < room else np.random.randint(0, number + 1)
    seen.num_questions[0] = number + 1
    if place < room:
        for number_of in range(NUM_FEATURES):
            seen.features[place, number_of] = feature(features, number_of)
        seen.category[place] = category
        seen.is_new[place] = is_new


@compiled
def keep_sign(seen: Watch, taps: Indices, category: int, is_negative: bool) -> None:
    """Note a sign and what is known around it; those of cosines, of which nothing is, are left out."""
    number = seen.num_signs[0]
    if category < 0 or number >= len(seen.sign_category):
        return
    for k in range(NUM_TAPS):
        seen.taps[number, k] = taps[k]
    seen.sign_category[number] = category
    seen.is_negative[number] = is_negative
    seen.num_signs[0] = number + 1


@compiled
def keep_pass(seen: Watch, oracle: Oracle, state: State) -> None:
    """Note where a pass begins."""
    number = seen.num_passes[0]
    if number < len(seen.pass_bits):
        seen.pass_bits[number] = oracle.spent[0]
        seen.pass_error[number] = expected_error(state)
        seen.num_passes[0] = number + 1
