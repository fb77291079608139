"""The register token layout in numpy: register ids <-> bytes. Knows no network.

A picture is `num_registers` ids, most important first. An id of FSQ levels takes as many bytes as its
codebook needs, most significant first: one for [4, 4, 4, 4], two for [8, 8, 8, 5, 5, 5]. A prefix that ends
within a register does not hold it. Legend: h w grid of patches, D width of the networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import MULTIPLE_PX, Size
from tokenizer.errors import ArtifactError

# Waves of the position code, in cycles over a square of the canvas's area: from a quarter of one to what a
# grid of 32 x 32 patches can tell apart.
MIN_CYCLES, MAX_CYCLES = 0.25, 16.0


# Four bytes a register.
MAX_CODEBOOK = 2**32


@dataclass(frozen=True, slots=True, eq=False)
class RegisterTables:
    """All numbers of the layout besides weights; saved in the artifact, frozen after export."""

    levels: NDArray[np.int32]
    """FSQ levels of a register, i32[d]."""
    num_registers: NDArray[np.int32]
    """Registers of a whole stream, i32[1]."""
    patch_px: NDArray[np.int32]
    """Side of a patch, i32[1]."""
    width: NDArray[np.int32]
    """Numbers per token in the networks, i32[1]."""
    canvas_area_px: NDArray[np.int32]
    """Area of the canvases that training saw, i32[1]: pictures are encoded at about this area."""
    anchor_psnr_db: NDArray[np.float32]
    """Mean PSNR at the candidate lengths, which the halting head corrects for each picture, f32[L]."""

    def __post_init__(self) -> None:
        single = (self.num_registers, self.patch_px, self.width, self.canvas_area_px)
        if self.levels.ndim != 1 or any(one.shape != (1,) or one[0] < 1 for one in single):
            raise ArtifactError("registers need a list of levels, and one positive number of everything else")
        if math.prod(self.levels.tolist()) > MAX_CODEBOOK:
            raise ArtifactError(f"a codebook has at most {MAX_CODEBOOK} codes, got {self.levels.tolist()}")
        if min(self.levels.tolist(), default=0) < 2:
            raise ArtifactError(f"FSQ needs levels of at least 2, got {self.levels.tolist()}")
        if MULTIPLE_PX % int(self.patch_px[0]):
            raise ArtifactError(f"a patch's side must divide {MULTIPLE_PX}, got {int(self.patch_px[0])}")


def bytes_per_register(levels: tuple[int, ...]) -> int:
    """Bytes that hold an id of this codebook.

    >>> bytes_per_register((4, 4, 4, 4)), bytes_per_register((8, 8, 8, 5, 5, 5))
    (1, 2)
    """
    return -(-(math.prod(levels) - 1).bit_length() // 8)


class RegisterLayout:
    """Register ids <-> tokens, and where patches lie. Thread-safe: it holds no state."""

    def __init__(self, tables: RegisterTables) -> None:
        self.tables = tables
        self.levels = tuple(tables.levels.tolist())
        self.codebook_size = math.prod(self.levels)
        self.num_registers = int(tables.num_registers[0])
        self.bytes_per_register = bytes_per_register(self.levels)

    @property
    def max_tokens(self) -> int:
        """Tokens of a whole stream, on any canvas."""
        return self.num_registers * self.bytes_per_register

    def tokens(self, ids: NDArray[np.integer]) -> bytes:
        """Ids of a picture, i[N] -> its tokens."""
        size = self.bytes_per_register
        return b"".join(int(one).to_bytes(size, "big") for one in ids.tolist())

    def ids(self, tokens: bytes) -> NDArray[np.int64]:
        """The whole registers of any prefix, i64[K]; what exceeds the codebook wraps: every byte is legal."""
        size = self.bytes_per_register
        whole = len(tokens) // size
        digits = np.frombuffer(tokens, np.uint8, count=whole * size).reshape(whole, size).astype(np.int64)
        ids: NDArray[np.int64] = (digits @ 256 ** np.arange(size - 1, -1, -1)) % self.codebook_size
        return ids

    def positions(self, canvas: Size) -> NDArray[np.float32]:
        """The position code of every patch of a canvas, f32[h, w, D]."""
        return patch_positions(canvas, int(self.tables.patch_px[0]), int(self.tables.width[0]))


def patch_positions(canvas: Size, patch_px: int, width: int) -> NDArray[np.float32]:
    """Sines and cosines of each patch's place, f32[h, w, D]; D must be a multiple of 4.

    Places are counted from the centre in sides of a square of the canvas's area, so that the code of a place
    does not depend on the resolution, and little on the aspect.
    """
    side_px = math.sqrt(canvas.area_px)
    cycles = np.geomspace(MIN_CYCLES, MAX_CYCLES, width // 4)

    def axis(length_px: int) -> NDArray[np.float64]:
        centre_px = (np.arange(length_px // patch_px) + 0.5) * patch_px - length_px / 2
        angle = 2 * np.pi * centre_px[:, None] / side_px * cycles
        return np.concatenate((np.sin(angle), np.cos(angle)), axis=1)

    rows, columns = axis(canvas.height_px), axis(canvas.width_px)
    shape = (len(rows), len(columns), width // 2)
    both = (np.broadcast_to(rows[:, None], shape), np.broadcast_to(columns[None], shape))
    return np.concatenate(both, axis=2).astype(np.float32)
