"""What fails, to look at: a face, text, line art, noise and flat colours at 24 to 512 bytes on one sheet.

    python -m benchmarks.failure_cases [--model PATH] [--out docs/images/failure_cases.webp]

Run it from the root of the repository. Bare tokens of one stream per picture on the default canvas, PSNR
below each. All pictures are computed, but for the portrait, which comes with matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.failure_pictures import failure_pictures
from benchmarks.ours import decode_prefixes
from benchmarks.pictures import Pixels
from examples.contact_sheet import Cell, Row, draw_sheet
from tokenizer import ImageTokenizer
from tokenizer.quality import psnr_db

LENGTHS = (24, 64, 128, 256, 512)
SHEET = Path("docs/images/failure_cases.webp")


def row(tokenizer: ImageTokenizer, label: str, pixels: Pixels) -> Row:
    """The original, then what each prefix shows."""
    (whole,) = tokenizer.encode([pixels])
    decoded = decode_prefixes(tokenizer, whole, LENGTHS)
    height, width = pixels.shape[:2]
    cells = [Cell(f"{psnr_db(pixels, decoded[length]):.1f} dB", decoded[length]) for length in LENGTHS]
    return Row(label, [Cell(f"{width}x{height}", pixels), *cells])


def main() -> None:
    """Encode, cut, decode, draw."""
    arguments = _parse()
    tokenizer = ImageTokenizer.from_pretrained(arguments.model)
    rows = [row(tokenizer, label, pixels) for label, pixels in failure_pictures().items()]
    title = f"Where prefixes fail: {tokenizer.name} {tokenizer.version}, bare tokens"
    sheet = draw_sheet(title, ["original", *(f"{length} bytes" for length in LENGTHS)], rows)
    sheet.save(arguments.out, quality=82, method=6)
    for one in rows:
        captions = [cell.caption for cell in one.cells if cell]
        print(one.label.replace("\n", " "), *captions, sep="\t")


def _parse() -> argparse.Namespace:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--model", default="default", help="name or folder of the artifact")
    command.add_argument("--out", type=Path, default=SHEET)
    return command.parse_args()


if __name__ == "__main__":
    main()
