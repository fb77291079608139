"""ImageTokenizer: the runtime facade. (signatures; the model follows)"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.budget import TokenBudget
from tokenizer.canvas import DEFAULT_AREA_PX, Size
from tokenizer.sequence import TokenSequence


class ImageTokenizer:
    name: str
    version: str
    fingerprint: str
    digest: str

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = "default", *, providers: Sequence[str] = ("cpu",), num_threads: int = 1
    ) -> ImageTokenizer:
        raise NotImplementedError

    def encode(
        self,
        images: Sequence[NDArray[np.uint8] | Any],
        budget: TokenBudget | None = None,
        *,
        canvas_area_px: int = DEFAULT_AREA_PX,
    ) -> list[TokenSequence]:
        raise NotImplementedError

    def decode(
        self, sequences: Sequence[TokenSequence], *, max_pixels: int = 50_000_000
    ) -> list[NDArray[np.uint8]]:
        raise NotImplementedError

    def max_tokens(self, canvas: Size) -> int:
        raise NotImplementedError
