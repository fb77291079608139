"""What realism adds: pictures as they are, for fidelity and for realism, at two sizes.

    python examples/realism_sheet.py --out sheet.webp [--model PATH] [--image PHOTO ...]

Without pictures: the computed scenes of the demo. Needs a model with a refiner.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from contact_sheet import CELL_PX, Cell, Row, draw_sheet
from numpy.typing import NDArray
from scenes import scenes

from tokenizer import ImageTokenizer
from tokenizer.canvas import Size
from tokenizer.images import read_image
from tokenizer.preprocess import resize
from tokenizer.quality import psnr_db

BYTE_COUNTS = (128, 512)
Pixels = NDArray[np.uint8]


def realism_sheet(tokenizer: ImageTokenizer, pictures: dict[str, Pixels], steps: int) -> list[Row]:
    """One row per picture: original, then fidelity and realism 1 at each number of bytes."""
    return [Row(name, _cells(tokenizer, square(pixels), steps)) for name, pixels in pictures.items()]


def heads(byte_counts: Sequence[int] = BYTE_COUNTS) -> list[str]:
    """What stands above the columns."""
    return ["original", *(f"{count} B, {way}" for count in byte_counts for way in ("fidelity", "realism 1"))]


def square(pixels: Pixels) -> Pixels:
    """The largest middle square, at the size that a cell shows without scaling it again."""
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return resize(pixels[top : top + side, left : left + side], Size(CELL_PX, CELL_PX))


def _cells(tokenizer: ImageTokenizer, pixels: Pixels, steps: int) -> list[Cell]:
    (whole,) = tokenizer.encode([pixels])
    cells = [Cell("", pixels)]
    for count in BYTE_COUNTS:
        for realism in (0.0, 1.0):
            (shown,) = tokenizer.decode([whole.prefix(count)], realism=realism, steps=steps)
            cells.append(Cell(f"{psnr_db(pixels, shown):.1f} dB", shown))
    return cells


def main() -> None:
    """Decode, draw, write."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--image", type=Path, nargs="*", help="your own pictures")
    command.add_argument("--model", default="default", help="name or folder of the artifact")
    command.add_argument("--steps", type=int, default=4)
    command.add_argument("--out", type=Path, required=True)
    arguments = command.parse_args()
    tokenizer = ImageTokenizer.from_pretrained(arguments.model)
    own = {path.stem.replace("_", "\n"): read_image(path.read_bytes()) for path in arguments.image or ()}
    rows = realism_sheet(tokenizer, own or scenes(), arguments.steps)
    draw_sheet(f"{tokenizer.name}, {arguments.steps} steps", heads(), rows).save(arguments.out, quality=88)


if __name__ == "__main__":
    main()
