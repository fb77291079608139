"""Pictures at their own size at 0.02 to 0.25 bits per pixel, on three canvases, against the usual codecs.

    python -m benchmarks.full_resolution --images FOLDER [--limit N] [--jobs N]

Prints and writes `benchmarks/results/full_resolution-FOLDER.{md,json,png}`: mean PSNR (RGB, 8 bit) and
MS-SSIM of our bare tokens at each number of bytes, on a canvas of the picture's size, on one of twice the
default area, and on the default one, which is what `encode` takes unless told otherwise. All are compared at
the picture's own size: what a canvas cannot hold counts as lost.

Peers are searched as in `benchmarks.rate_distortion`: whole files, best downsampled size and setting per
picture and number of bytes. That takes minutes a picture; what was measured stays in
`peers-FOLDER-full.json`, and a run that was interrupted goes on from there. All pictures must have one area,
because a number of bytes stands for bits per pixel.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.command import inputs, model_facts, parser, run_name
from benchmarks.full_resolution_report import BITS_PER_PIXEL, page, plot
from benchmarks.linear import LinearTokenizer
from benchmarks.ours import measure_tokens_and_files
from benchmarks.peer_cache import measure_peers
from benchmarks.peers import all_peers, missing_peers
from benchmarks.pictures import Picture
from benchmarks.rate_distortion_report import Measured, as_json
from benchmarks.report import can_plot, write_json
from benchmarks.scores import Series
from tokenizer import ImageTokenizer
from tokenizer.canvas import DEFAULT_AREA_PX

# A placeholder has no use for thousands of bytes.
PLACEHOLDERS = ("ThumbHash", "BlurHash")
# Long sides for a picture of 256 pixels: a file of 0.02 bits per pixel is best at a quarter to a third.
SIDES_OF_256 = (48, 64, 80, 96, 128, 160, 192, 224, 256)


def main() -> None:
    """Measure, print, write."""
    arguments = _parse()
    pictures, tokenizer = inputs(arguments)
    byte_counts = byte_counts_of(pictures)
    name = run_name(arguments)
    codecs = [codec for codec in all_peers(byte_counts[-1]) if codec.name not in PLACEHOLDERS]
    kept = arguments.results / f"peers-{name}-full.json"
    peers = measure_peers(codecs, pictures, byte_counts, kept, jobs=arguments.jobs, sides_of_256=SIDES_OF_256)
    if arguments.peers_only:
        return
    ours = measure_ours(tokenizer, pictures, byte_counts)
    missing = [peer for peer in missing_peers(codecs) if peer not in PLACEHOLDERS]
    measured = Measured(name, byte_counts, pictures, [*ours, *peers], model_facts(tokenizer), missing)
    stem = arguments.results / f"full_resolution-{name}"
    text = page(measured)
    stem.with_suffix(".md").write_text(text)
    write_json(stem.with_suffix(".json"), {"bits_per_pixel": list(BITS_PER_PIXEL), **as_json(measured)})
    print(text)
    if can_plot():
        plot(measured, stem.with_suffix(".png"))


def byte_counts_of(pictures: Sequence[Picture]) -> tuple[int, ...]:
    """Whole bytes within each number of bits per pixel. Raises SystemExit if areas differ."""
    areas = {picture.pixels[..., 0].size for picture in pictures}
    if len(areas) > 1:
        raise SystemExit(f"the pictures must have one area, got {sorted(areas)} pixels")
    (area_px,) = areas
    return tuple(int(bits * area_px / 8) for bits in BITS_PER_PIXEL)


def measure_ours(
    tokenizer: ImageTokenizer, pictures: Sequence[Picture], byte_counts: Sequence[int]
) -> list[Series]:
    """Bare tokens on three canvases, and the codec inside on the largest."""
    full_px = pictures[0].pixels[..., 0].size
    linear = LinearTokenizer(tokenizer.artifact)
    asked = (
        ("Tessera, full-size canvas", tokenizer, full_px),
        ("Tessera, twice the default canvas", tokenizer, 2 * DEFAULT_AREA_PX),
        ("Tessera, default canvas", tokenizer, DEFAULT_AREA_PX),
        ("linear codec, full-size canvas", linear, full_px),
    )
    series = []
    for label, one, area_px in asked:
        tokens, _ = measure_tokens_and_files(one, pictures, byte_counts, label, canvas_area_px=area_px)
        series.append(Series(label, tokens.rows, is_ours=True))
    return series


def _parse() -> argparse.Namespace:
    command = parser(__doc__)
    command.add_argument("--jobs", type=int, default=1, help="processes for peers")
    command.add_argument("--peers-only", action="store_true", help="only measure and keep the peers")
    return command.parse_args()


if __name__ == "__main__":
    main()
