"""When the calls of an open loop are due. Fixed before the first is sent: no answer can shift them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.load.plan import Arrivals


def schedule(arrivals: Arrivals, rate_per_s: float, duration_s: float, seed: int) -> NDArray[np.float64]:
    """Increasing times in seconds, all below `duration_s`.

    >>> schedule(Arrivals.CONSTANT, 4, 1, seed=0).tolist()
    [0.0, 0.25, 0.5, 0.75]
    """
    if arrivals is Arrivals.CONSTANT:
        return np.arange(np.ceil(rate_per_s * duration_s)) / rate_per_s
    return _poisson(rate_per_s, duration_s, np.random.default_rng(seed))


def _poisson(rate_per_s: float, duration_s: float, random: np.random.Generator) -> NDArray[np.float64]:
    # Given their number, the arrivals of a Poisson process are uniform draws, sorted.
    count = random.poisson(rate_per_s * duration_s)
    return np.sort(random.uniform(0, duration_s, count))
