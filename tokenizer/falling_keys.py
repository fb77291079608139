"""The largest keys of a table whose rows fall, without looking at most of them. Knows no pictures.

    key[i, p] = base[i] + fall[row_kind[i], p],   never rising along p

Legend: n rows, K kinds of rows, P columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The column by which the search begins: of the first six it left the fewest keys to sort (docs/log.md).
_BOUND_COLUMN = 1


def largest(
    base: NDArray[np.int64], fall: NDArray[np.int64], kind: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Flat indices i * P + p of the `count` largest keys, largest first, ties by index; i64[count].

    Keys must be below 2**33 in size, and n * P below 2**29, so that both fit in one integer that is sorted.
    """
    rows, columns = len(base), fall.shape[1]
    least = _lower_bound(base, fall, kind, count)
    index_bits = (rows * columns).bit_length()
    found, at = [], np.arange(rows)
    for column in range(columns):
        key = base[at] + fall[kind[at], column]
        # Whoever is below the bound here is so in all columns that follow.
        above = key >= least
        at = at[above]
        found.append((-key[above] << index_bits) | (at * columns + column))
    together = np.concatenate(found)
    best = np.sort(np.partition(together, count - 1)[:count])
    indices: NDArray[np.int64] = best & ((1 << index_bits) - 1)
    return indices


def _lower_bound(
    base: NDArray[np.int64], fall: NDArray[np.int64], kind: NDArray[np.int64], count: int
) -> np.int64:
    """At least `count` keys are no smaller: enough rows have a whole column and all before it above."""
    column = min(fall.shape[1] - 1, max(_BOUND_COLUMN, -(-count // len(base)) - 1))
    rows = -(-count // (column + 1))
    key = base + fall[kind, column]
    bound: np.int64 = np.partition(key, len(key) - rows)[len(key) - rows]
    return bound
