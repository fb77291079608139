"""One total of bytes for a set of pictures: who gets how many. Pure numbers: no model, no picture.

Each picture's predicted curve becomes pieces, a few tokens long, and every piece a worth. The pieces are
bought in order of worth until the total is spent, the last one in part. Worth by goal:

mse     mean squared error removed per byte, on the convex hull of the curve: equal slopes
        (Shoham & Gersho, IEEE Trans. ASSP 1988); the least mean squared error over all pictures
psnr    decibels won per byte, on the hull likewise: the highest mean PSNR
worst   the worse the picture is without the piece, the more it is worth: the highest lowest PSNR
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenizer.bitstream import header_size_bytes
from tokenizer.distortion import DistortionCurve
from tokenizer.errors import InvalidBudget
from tokenizer.sequence import TokenSequence

Goal = Literal["mse", "psnr", "worst"]
GOALS: tuple[Goal, ...] = ("mse", "psnr", "worst")
# Pieces per doubling of the length: between two of them a curve rises by less than 0.1 dB.
PIECES_PER_OCTAVE = 16


def allocate(
    sequences: Sequence[TokenSequence],
    total_bytes: int,
    *,
    goal: Goal = "mse",
    min_bytes: int = 0,
    max_bytes: int | None = None,
    bare: bool = False,
) -> list[TokenSequence]:
    """Prefixes of freshly encoded streams whose files take `total_bytes` together, and never more.

    They take exactly the total, unless every picture has all its tokens or `max_bytes`. Each file has at
    least one token and `min_bytes`, as far as its stream goes. Bytes count headers unless `bare`. A larger
    total never gives any picture fewer bytes. Raises InvalidBudget.
    """
    _check(sequences, goal, min_bytes, max_bytes)
    bounds = [length_bounds(one, min_bytes, max_bytes, bare=bare) for one in sequences]
    shortest, longest = [least for least, _ in bounds], [most for _, most in bounds]
    headers = [0 if bare else header_size_bytes(one.source, one.canvas) for one in sequences]
    spare = total_bytes - sum(headers) - sum(shortest)
    if spare < 0:
        raise InvalidBudget(
            f"{total_bytes} bytes do not hold {len(sequences)} pictures: the least they take is "
            f"{sum(headers) + sum(shortest)}"
        )
    curves = [one.curve for one in sequences if one.curve is not None]
    more = _spend(curves, shortest, longest, spare, goal)
    return [one.prefix(least + extra) for one, least, extra in zip(sequences, shortest, more, strict=True)]


def length_bounds(
    one: TokenSequence, min_bytes: int, max_bytes: int | None, *, bare: bool
) -> tuple[int, int]:
    """Fewest and most tokens that a picture may get. Raises InvalidBudget."""
    header = 0 if bare else header_size_bytes(one.source, one.canvas)
    longest = one.length if max_bytes is None else min(one.length, max_bytes - header)
    if longest < 1:
        raise InvalidBudget(f"max_bytes {max_bytes} holds no token: a header takes {header}")
    return min(longest, max(1, min_bytes - header)), longest


def _check(sequences: Sequence[TokenSequence], goal: str, min_bytes: int, max_bytes: int | None) -> None:
    if any(one.curve is None for one in sequences):
        raise InvalidBudget("a stream without predicted quality cannot share a total; encode it again")
    if goal not in GOALS:
        raise InvalidBudget(f"goal must be one of {', '.join(GOALS)}, got {goal!r}")
    if min_bytes < 0 or (max_bytes is not None and max_bytes < max(1, min_bytes)):
        raise InvalidBudget(f"a picture cannot take {min_bytes} bytes at least and {max_bytes} at most")


def _spend(
    curves: Sequence[DistortionCurve],
    shortest: Sequence[int],
    longest: Sequence[int],
    spare: int,
    goal: Goal,
) -> list[int]:
    """Tokens that each picture gets beyond its shortest length."""
    pieces = [priced_pieces(*one, goal) for one in zip(curves, shortest, longest, strict=True)]
    sizes, worths = (np.concatenate([piece[part] for piece in pieces] or [np.zeros(0)]) for part in (0, 1))
    owner = np.repeat(np.arange(len(pieces)), [len(size) for size, _ in pieces])
    # Within a picture worth never rises, and a stable sort keeps its pieces in order where it is equal.
    order = np.argsort(-worths, kind="stable")
    spent = np.minimum(np.cumsum(sizes[order]), spare)
    bought = np.diff(spent, prepend=0)
    tokens = np.bincount(owner[order], weights=bought, minlength=len(pieces))
    return [int(count) for count in tokens]


def priced_pieces(
    curve: DistortionCurve, shortest: int, longest: int, goal: Goal
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(tokens, worth) of what a picture can buy, in the order of its stream; worth never rises."""
    # Below the first length nothing is predicted, and much is lost: everybody gets there first.
    start = max(shortest, min(curve.lengths[0], longest))
    sizes, worth = _priced(curve, start, longest, goal)
    if start == shortest:
        return sizes, worth
    return np.insert(sizes, 0, start - shortest), np.insert(worth, 0, np.inf)


def _priced(
    curve: DistortionCurve, start: int, longest: int, goal: Goal
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lengths = _grid(start, longest)
    psnr_db = np.asarray([curve.psnr_db_at(int(length)) for length in lengths])
    if goal == "worst":
        return np.diff(lengths), -psnr_db[:-1]
    value = psnr_db if goal == "psnr" else -np.power(10.0, -psnr_db / 10)
    corners = _upper_hull(lengths, value)
    sizes = np.diff(lengths[corners])
    return sizes, np.diff(value[corners]) / sizes


def _grid(shortest: int, longest: int) -> NDArray[np.float64]:
    """Both ends and the lengths of one fixed geometric grid between them: the same for every total."""
    top = int(np.ceil(PIECES_PER_OCTAVE * np.log2(max(2, longest))))
    grid = np.unique(np.rint(np.exp2(np.arange(top + 1) / PIECES_PER_OCTAVE)))
    inside = grid[(grid > shortest) & (grid < longest)]
    return np.unique(np.concatenate(([shortest], inside, [longest])).astype(np.float64))


def _upper_hull(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[int]:
    """Indices of the least concave curve above the points (Andrew's monotone chain)."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return hull
