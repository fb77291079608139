"""scan: the order of questions of the range coding, for both sides of the wire (see embedded.py)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tokenizer.answers import NO_ANSWER, Oracle, is_encoder, sign_and_size, significance, upper_half
from tokenizer.compiled import compiled
from tokenizer.contexts import NUM_TAPS, ContextModel, Memo, new_memo, read_features, remembered_odds
from tokenizer.embedded import (
    HOPELESS_ODDS,
    LEAST_ODDS,
    State,
    Watch,
    keep_pass,
    keep_question,
    keep_sign,
    list_candidates,
    list_found,
    refine,
    settle,
    sort_likely_first,
    threshold,
    threshold_log,
)
from tokenizer.signs import negative_odds, read_taps
from tokenizer.surroundings import NUM_GROUPS, Indices, bands_up_to, sum_groups


class Room(NamedTuple):
    """Arrays to work in; compiled code allocates none. Places for n coefficients each but the last three."""

    left: Indices
    """Candidates of the plane that may still be asked."""
    asked: Indices
    """Coefficients of a pass, by rising number, and the `odds` of each."""
    odds: Indices
    order: Indices
    """Indices of `asked`, likely ones first."""
    found: Indices
    """What was found before the plane."""
    reach: Indices
    """What `list_candidates` works with; afterwards the sort does."""
    sums: Indices
    """What is known around every coefficient, i32[G, n]."""
    counts: Indices
    taps: Indices
    """What is known around a sign, i32[K]."""
    memo: Memo


def room(n: int) -> Room:
    """Room for n coefficients."""
    left, asked, odds, order, found, reach = (np.empty(n, np.int32) for _ in range(6))
    sums, counts = np.empty((NUM_GROUPS, n), np.int32), np.empty(257, np.int32)
    return Room(
        left, asked, odds, order, found, reach, sums, counts, np.empty(NUM_TAPS, np.int32), new_memo()
    )


@compiled
def price(
    state: State,
    model: ContextModel,
    oracle: Oracle,
    seen: Watch,
    work: Room,
    plane: int,
    least: int,
    num_left: int,
) -> tuple[int, int]:
    """Split the candidates by their odds: those to be asked in this pass go into `asked` and `odds`, those
    that may be asked later stay in `left`. Returns how many of each."""
    if num_left == 0:
        return 0, 0
    # Fine bands come last, and into play late.
    reached = bands_up_to(state.bands, work.left[num_left - 1])
    sum_groups(state.bands[:reached], state.relative, work.sums)
    num_asked, num_kept = 0, 0
    for i in range(num_left):
        at = work.left[i]
        category, own = state.category[at], state.own_log[at] - threshold_log(plane)
        features = read_features(model, work.sums, own, at)
        odds = remembered_odds(model, work.memo, features, category)
        if odds < HOPELESS_ODDS:
            continue
        if len(seen.category):
            keep_question(seen, features, category, abs(oracle.values[at]) >= threshold(plane))
        if odds >= least:
            work.asked[num_asked] = at
            work.odds[num_asked] = odds
            num_asked += 1
        else:
            work.left[num_kept] = at
            num_kept += 1
    return num_asked, num_kept


@compiled
def ask_significance(
    state: State, model: ContextModel, oracle: Oracle, seen: Watch, work: Room, plane: int, num_asked: int
) -> bool:
    """Ask, likely ones first; False where answers end."""
    sort_likely_first(work.odds[:num_asked], work.order, work.reach, work.counts)
    for i in work.order[:num_asked]:
        at = work.asked[i]
        answer = significance(oracle, at, work.odds[i], threshold(plane))
        if answer == 1:
            category = read_taps(state, at, plane, work.taps)
            if is_encoder(oracle):
                keep_sign(seen, work.taps, category, oracle.values[at] < 0)
            negative, most_octaves = (
                negative_odds(model, work.taps, category),
                plane - 1 - state.asked_plane[at],
            )
            answer = sign_and_size(oracle, at, negative, threshold(plane), most_octaves)
        if answer == NO_ANSWER:
            return False
        settle(state, model, at, answer, plane)
    return True


@compiled
def ask_halves(state: State, model: ContextModel, oracle: Oracle, found: Indices) -> bool:
    """Refine what was found; False where answers end."""
    deepest = len(model.refinement_odds) - 1
    for at in found:
        depth = state.refinements[at]
        odds = model.refinement_odds[min(depth, deepest)]
        low, width, next_depth = state.low[at], state.width[at], min(depth + 1, deepest)
        answer = upper_half(oracle, at, odds, low, width, next_depth, state.is_negative[at])
        if answer == NO_ANSWER:
            return False
        refine(state, model, at, answer)
    return True


@compiled
def scan(
    state: State, model: ContextModel, oracle: Oracle, seen: Watch, work: Room, planes: int, seed: int
) -> bool:
    """Ask until the oracle has no more answers (False), or all planes are done (True).

    `seed` draws the sample of questions that `seen` keeps.
    """
    if len(seen.category):
        np.random.seed(seed)
    for plane in range(planes):
        num_found = list_found(state, work.found)
        num_left = list_candidates(state, plane, work.reach, work.left)
        for number in range(len(LEAST_ODDS)):
            num_asked, num_left = price(state, model, oracle, seen, work, plane, LEAST_ODDS[number], num_left)
            keep_pass(seen, oracle, state)
            if not ask_significance(state, model, oracle, seen, work, plane, num_asked):
                return False
            if number == 0:
                keep_pass(seen, oracle, state)
                if not ask_halves(state, model, oracle, work.found[:num_found]):
                    return False
    return True
