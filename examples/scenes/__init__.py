"""Three photograph-like pictures, computed: for a demo on a machine that has no pictures. numpy only.

Deterministic: the same pixels on every run. `python -m scenes FOLDER` (in `examples`) writes them as PNG.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenes.flowers import flowers
from scenes.landscape import landscape
from scenes.still_life import still_life


def scenes() -> dict[str, NDArray[np.uint8]]:
    """Name -> uint8[512, 768, 3]."""
    return {"landscape": landscape(), "still life": still_life(), "flowers": flowers()}
