"""One total of bytes for a set that does not fit in memory: a histogram of worths, and the price it gives.

The pieces of `allocation` are bought in order of worth until the total is spent. Here they are only counted
by worth, in bins of a percent, so that a set of any size takes the memory of one histogram, and histograms of
parts add up. The pieces of the last bin are given out in the order of the set.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tokenizer.allocation import Goal, length_bounds, priced_pieces
from tokenizer.bitstream import header_size_bytes
from tokenizer.errors import InvalidBudget
from tokenizer.sequence import TokenSequence

# Bins per octave of worth, or per decibel for the goal `worst`: neighbours differ by 1 %.
_BINS = 64
_FIRST, _LAST = 2**20, -(2**20)


@dataclass(frozen=True, slots=True)
class Terms:
    """What each picture may take, and what bytes are spent for."""

    goal: Goal = "mse"
    min_bytes: int = 0
    max_bytes: int | None = None
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What some pictures take at least, and what they would buy beyond that: tokens by bin of worth."""

    least_bytes: int
    tokens_by_bin: Mapping[int, int]

    @classmethod
    def of(cls, sequences: Iterable[TokenSequence], terms: Terms) -> Demand:
        """Of freshly encoded streams. Raises InvalidBudget."""
        least_bytes, bins = 0, Counter[int]()
        for one in sequences:
            shortest, pieces = _wishes(one, terms)
            least_bytes += shortest + (0 if terms.bare else header_size_bytes(one.source, one.canvas))
            for tokens, place in pieces:
                bins[place] += tokens
        return cls(least_bytes, bins)

    @classmethod
    def sum(cls, demands: Iterable[Demand]) -> Demand:
        """Of parts of a set."""
        least_bytes, bins = 0, Counter[int]()
        for demand in demands:
            least_bytes += demand.least_bytes
            bins.update(demand.tokens_by_bin)
        return cls(least_bytes, bins)


@dataclass(frozen=True, slots=True)
class Price:
    """Every piece above this bin is bought, and `left` tokens of those in it."""

    bin: int
    left: int

    @classmethod
    def for_total(cls, demand: Demand, total_bytes: int) -> Price:
        """The price at which a set takes the total, or all it has. Raises InvalidBudget."""
        spare = total_bytes - demand.least_bytes
        if spare < 0:
            raise InvalidBudget(
                f"{total_bytes} bytes do not hold these pictures: the least they take is {demand.least_bytes}"
            )
        for place in sorted(demand.tokens_by_bin, reverse=True):
            tokens = demand.tokens_by_bin[place]
            if tokens > spare:
                return cls(place, spare)
            spare -= tokens
        return cls(_LAST, 0)

    def cut(self, one: TokenSequence, terms: Terms) -> tuple[TokenSequence, Price]:
        """The picture's share, and the price with what is left for the next one."""
        length, pieces = _wishes(one, terms)
        left = self.left
        for tokens, place in pieces:
            if place < self.bin:
                break
            bought = tokens if place > self.bin else min(tokens, left)
            left -= 0 if place > self.bin else bought
            length += bought
        return one.prefix(length), Price(self.bin, left)


def _wishes(one: TokenSequence, terms: Terms) -> tuple[int, list[tuple[int, int]]]:
    """The shortest length, and (tokens, bin) of each piece beyond it; bins never rise."""
    if one.curve is None:
        raise InvalidBudget("a stream without predicted quality cannot share a total; encode it again")
    shortest, longest = length_bounds(one, terms.min_bytes, terms.max_bytes, bare=terms.bare)
    sizes, worths = priced_pieces(one.curve, shortest, longest, terms.goal)
    bins = [_bin(float(worth), terms.goal) for worth in worths]
    return shortest, [(int(size), place) for size, place in zip(sizes, bins, strict=True)]


def _bin(worth: float, goal: Goal) -> int:
    if worth == math.inf:
        return _FIRST
    if goal == "worst":
        return math.floor(_BINS * worth)
    return math.floor(_BINS * math.log2(worth)) if worth > 0 else _LAST
