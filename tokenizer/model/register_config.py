"""RegisterConfig: sizes of the register layout's networks. Imports neither torch nor FSQ."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tokenizer.canvas import MULTIPLE_PX
from tokenizer.registers import bytes_per_register

HEAD_WIDTH = 64
MAX_CODEBOOK_SIZE = 1 << 16


@dataclass(frozen=True)
class RegisterConfig:
    """Sizes of the two transformers and of the code between them."""

    levels: tuple[int, ...] = (4, 4, 4, 4)
    """FSQ levels of a register; their product is the size of its codebook, at most 65536."""
    num_registers: int = 256
    width: int = 256
    encoder_depth: int = 4
    decoder_depth: int = 4
    patch_px: int = MULTIPLE_PX

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3 or math.prod(self.levels) > MAX_CODEBOOK_SIZE:
            raise ValueError(
                f"levels must be at least 3 each, with a product up to {MAX_CODEBOOK_SIZE}, got {self.levels}"
            )
        if self.width < HEAD_WIDTH or self.width % HEAD_WIDTH:
            raise ValueError(f"width must be a multiple of {HEAD_WIDTH}, got {self.width}")
        if self.patch_px < 1 or MULTIPLE_PX % self.patch_px:
            raise ValueError(f"patch_px must divide {MULTIPLE_PX}, got {self.patch_px}")
        for name in ("num_registers", "encoder_depth", "decoder_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def bytes_per_register(self) -> int:
        """Tokens that one register takes."""
        return bytes_per_register(self.levels)

    @property
    def max_tokens(self) -> int:
        """Tokens of a whole stream, on any canvas."""
        return self.num_registers * self.bytes_per_register
