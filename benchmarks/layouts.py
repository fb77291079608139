"""Two artifacts at equal bytes: the register layout against the spectral one, each in its fixed coding.

    python -m benchmarks.layouts --images FOLDER --model SPECTRAL --other REGISTER [--crop 128]

Prints and writes `benchmarks/results/layouts-FOLDER-128.{md,json}`: mean PSNR of bare tokens at each byte
count. Pictures are worked on at their own size, so `--crop` should be what both were trained at. That
both had equal training time is for the one who trained them to see to; the page shows either's steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.command import facts, parser, run_name, write_results
from benchmarks.ours import decode_prefixes
from benchmarks.pictures import Picture, load_pictures
from tokenizer import Coding, ImageTokenizer
from tokenizer.quality import psnr_db

BYTE_COUNTS = (8, 16, 32, 64, 128, 256)


def mean_psnr_db(tokenizer: ImageTokenizer, pictures: Sequence[Picture]) -> list[float]:
    """Mean over the pictures at each of BYTE_COUNTS, each on a canvas of its own size."""
    rows = []
    for picture in pictures:
        height_px, width_px = picture.pixels.shape[:2]
        (whole,) = tokenizer.encode(
            [picture.pixels], coding=Coding.FIXED, canvas_area_px=height_px * width_px
        )
        lengths = [min(count, whole.length) for count in BYTE_COUNTS]
        decoded = decode_prefixes(tokenizer, whole, lengths)
        rows.append([psnr_db(picture.pixels, decoded[length]) for length in lengths])
    means: list[float] = np.mean(rows, axis=0).tolist()
    return means


def page(tokenizers: Sequence[ImageTokenizer], means: Sequence[Sequence[float]], count: int) -> str:
    """A row per model."""
    lines = [
        f"# Token layouts at equal bytes, {count} pictures",
        "",
        "Mean PSNR in dB of the first bytes of bare tokens, fixed coding. Written by "
        "`python -m benchmarks.layouts`.",
        "",
        "| layout | model | recipe | steps | " + " | ".join(f"{n} B" for n in BYTE_COUNTS) + " |",
        "|---|---|---|---|" + "---|" * len(BYTE_COUNTS),
    ]
    for tokenizer, row in zip(tokenizers, means, strict=True):
        artifact = tokenizer.artifact
        name, steps = artifact.manifest["recipe"]["name"], artifact.manifest["steps"]
        cells = " | ".join(f"{db:.2f}" for db in row)
        lines.append(f"| {artifact.config.layout} | {tokenizer.name} | {name} | {steps} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both models."""
    arguments = parser(__doc__, crop_px=128)
    arguments.add_argument("--other", required=True, help="name or folder of the other artifact")
    options = arguments.parse_args()
    pictures = load_pictures(options.images, crop_px=options.crop, limit=options.limit)
    tokenizers = [
        ImageTokenizer.from_pretrained(model, num_threads=options.threads)
        for model in (options.model, options.other)
    ]
    means = [mean_psnr_db(tokenizer, pictures) for tokenizer in tokenizers]
    name = run_name(options)
    content = {
        **facts(name, len(pictures), tokenizers[0]),
        "byte_counts": BYTE_COUNTS,
        "mean_psnr_db": {t.artifact.config.layout: row for t, row in zip(tokenizers, means, strict=True)},
    }
    write_results(options.results / f"layouts-{name}", page(tokenizers, means, len(pictures)), content)


if __name__ == "__main__":
    main()
