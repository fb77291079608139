"""Which frequencies arrive at which byte? The radial power spectrum of prefixes against that of originals.

    python -m benchmarks.spectrum --images FOLDER [--crop 256] [--model PATH]

Prints and writes `benchmarks/results/spectrum-FOLDER-256.{md,json,png}`: for each byte count the share of the
originals' luma power that the decoded prefix has at each frequency, the share that it has right, and the
frequency up to which half has arrived.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.progress import track

from benchmarks.command import facts, inputs, parser, run_name, write_results
from benchmarks.ours import decode_prefixes
from benchmarks.pictures import Picture
from benchmarks.radial import luma, radial_power
from benchmarks.report import can_plot
from benchmarks.spectrum_report import BYTE_COUNTS, Spectra, as_json, page, plot
from tokenizer import ImageTokenizer


def measure(tokenizer: ImageTokenizer, pictures: Sequence[Picture]) -> Spectra:
    """Power per frequency of originals, prefixes and errors, summed over the pictures."""
    sums = [_of_picture(tokenizer, picture) for picture in track(pictures, description="spectrum")]
    bands = min(one.original.size for one in sums)
    return Spectra(
        np.sum([one.original[:bands] for one in sums], axis=0),
        np.sum([one.decoded[:, :bands] for one in sums], axis=0),
        np.sum([one.error[:, :bands] for one in sums], axis=0),
    )


def _of_picture(tokenizer: ImageTokenizer, picture: Picture) -> Spectra:
    (whole,) = tokenizer.encode([picture.pixels])
    prefixes = decode_prefixes(tokenizer, whole, sorted({min(count, whole.length) for count in BYTE_COUNTS}))
    original = luma(picture.pixels)
    decoded = [luma(prefixes[min(count, whole.length)]) for count in BYTE_COUNTS]
    return Spectra(
        radial_power(original),
        np.stack([radial_power(plane) for plane in decoded]),
        np.stack([radial_power(original - plane) for plane in decoded]),
    )


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__).parse_args()
    pictures, tokenizer = inputs(arguments)
    spectra = measure(tokenizer, pictures)
    name = run_name(arguments)
    stem = arguments.results / f"spectrum-{name}"
    text = page(spectra, name, len(pictures), tokenizer)
    write_results(stem, text, facts(name, len(pictures), tokenizer) | as_json(spectra))
    if can_plot():
        title = f"{name}, {len(pictures)} pictures, model {tokenizer.fingerprint}"
        plot(spectra, stem.with_suffix(".png"), title=title)


if __name__ == "__main__":
    main()
