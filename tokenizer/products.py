"""Matrix products that keep to one thread. Knows nothing of pictures.

OpenBLAS takes all processors for a product of any size worth it, and its threads then spin for some 27 ms in
case another follows: as long as a whole encode takes, so that one thread's work filled two processors, and
where other work filled them already, a product of 0.2 ms took ten. Its number of threads can only be set for
the whole process, which belongs to whoever imports us.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.floating[Any])
# Multiplications up to which OpenBLAS stays on one thread (interface/gemm.c), and the fewest rows that still
# make a product worth its while: with less, a whole one is faster whatever its threads do.
ONE_THREAD_MULTIPLICATIONS, LEAST_ROWS = 262_144, 4


def one_thread_product(left: NDArray[Number], right: NDArray[Number]) -> NDArray[Number]:
    """left @ right, [..., m, k] @ [..., k, n], by parts of equal rows that are small enough.

    Products whose parts would have too few rows stay whole: k * n above 65,536, or an m without divisors.
    """
    *_, m, k = left.shape
    parts = _parts(m, k * right.shape[-1])
    if parts == 1:
        whole: NDArray[Number] = left @ right
        return whole
    split = left.reshape(*left.shape[:-2], parts, m // parts, k)
    products: NDArray[Number] = split @ right[..., None, :, :]
    return products.reshape(*products.shape[:-3], m, right.shape[-1])


def _parts(m: int, multiplications_per_row: int) -> int:
    least = -(-m * multiplications_per_row // ONE_THREAD_MULTIPLICATIONS)
    return next((parts for parts in range(max(1, least), m // LEAST_ROWS + 1) if m % parts == 0), 1)
