"""Rate, distortion and perception: PSNR against the distance of textures, for us and for WebP and AVIF.

    python -m benchmarks.perception --images FOLDER [--model PATH] [--realism 0.5 1] [--steps 1 4]

Prints and writes `benchmarks/results/perception-FOLDER-256.{md,json,png}`: at 64 to 1024 bytes the PSNR and
the sliced Wasserstein distance of patches (benchmarks/sliced_wasserstein.py) between decoded pictures and
their originals, per level of a Laplacian pyramid. A model whose `decode` has a realism knob is measured at
every realism and number of steps, each beside grain of the same PSNR (benchmarks/noise_control.py), which a
refiner has to beat; one without, at fidelity only.

WebP and AVIF are made again with the settings that `benchmarks.rate_distortion` found best by PSNR and kept
in `peers-FOLDER-256.json`; without that file they are left out, and the page says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.codec import Codec
from benchmarks.command import facts, inputs, parser, run_name, write_results
from benchmarks.noise_control import NoiseControl, expected_deviation
from benchmarks.ours import BATCH_SIZE
from benchmarks.peer_cache import kept_series
from benchmarks.peers import all_peers
from benchmarks.perception_report import (
    BYTE_COUNTS,
    FIDELITY,
    NOISE,
    REALISM,
    Point,
    Report,
    as_json,
    page,
    plot,
)
from benchmarks.pictures import Picture, Pixels
from benchmarks.report import can_plot
from benchmarks.scores import BYTE_COUNTS as ALL_BYTE_COUNTS
from benchmarks.scores import capped_psnr_db
from benchmarks.search import decode_setting
from benchmarks.sliced_wasserstein import TextureDistance
from tokenizer import ImageTokenizer, TokenSequence

PEERS = ("WebP", "AVIF")
SEED = 0


def measure_ours(
    tokenizer: ImageTokenizer,
    pictures: Sequence[Picture],
    distance: TextureDistance,
    knobs: Sequence[Mapping[str, float]],
) -> list[Point]:
    """Fidelity at each byte count, then two points per setting of the decoder: its own, and grain's."""
    wholes = [tokenizer.encode([picture.pixels])[0] for picture in pictures]
    points = []
    for count in track(BYTE_COUNTS, description="perception"):
        prefixes = [whole.prefix(count) for whole in wholes]
        fidelity = _decode(tokenizer, prefixes, {})
        points.append(_point(pictures, fidelity, distance, count, FIDELITY, {}))
        deviations = [expected_deviation(prefix) for prefix in prefixes]
        control = NoiseControl(pictures, fidelity, deviations, SEED)
        for knob in knobs:
            refined = _point(pictures, _decode(tokenizer, prefixes, knob), distance, count, REALISM, knob)
            noisy = control.at_psnr(refined.psnr_db)
            points += [refined, _point(pictures, noisy, distance, count, NOISE, knob)]
    return points


def _decode(
    tokenizer: ImageTokenizer, sequences: Sequence[TokenSequence], knob: Mapping[str, float]
) -> list[Pixels]:
    decode: Callable[..., list[Pixels]] = tokenizer.decode
    if knob:
        decode = partial(decode, **knob, seed=SEED)
    starts = range(0, len(sequences), BATCH_SIZE)
    return [pixels for start in starts for pixels in decode(sequences[start : start + BATCH_SIZE])]


def has_realism(tokenizer: ImageTokenizer) -> bool:
    """True if this model has a refiner: others decode for fidelity only."""
    return tokenizer.has_realism


def knobs(
    tokenizer: ImageTokenizer, realism: Sequence[float], steps: Sequence[int]
) -> list[dict[str, float]]:
    """Every realism with every number of steps; realism 0 is fidelity, whatever the steps."""
    if not has_realism(tokenizer):
        return []
    return [{"realism": share, "steps": count} for count in steps for share in realism if share > 0]


def measure_peer(
    codec: Codec, pictures: Sequence[Picture], distance: TextureDistance, kept: Path
) -> list[Point]:
    """One point per byte count that the codec reaches on every picture, from kept settings."""
    series = kept_series(codec, pictures, ALL_BYTE_COUNTS, kept)
    if series is None:
        return []
    points = []
    for count in BYTE_COUNTS:
        cells = [row[ALL_BYTE_COUNTS.index(count)] for row in series.rows]
        settings = [cell.setting for cell in cells if cell is not None]
        if len(settings) == len(pictures):
            decoded = [
                decode_setting(picture, codec, setting)
                for picture, setting in zip(pictures, settings, strict=True)
            ]
            points.append(_point(pictures, decoded, distance, count, codec.name, {}))
    return points


def _point(
    pictures: Sequence[Picture],
    decoded: Sequence[Pixels],
    distance: TextureDistance,
    count: int,
    series: str,
    knob: Mapping[str, float],
) -> Point:
    psnr_db = [
        capped_psnr_db(picture.pixels, pixels) for picture, pixels in zip(pictures, decoded, strict=True)
    ]
    return Point(series, count, dict(knob), float(np.mean(psnr_db)), tuple(distance.of(decoded)))


def main() -> None:
    """Measure, print, write."""
    arguments = _parse()
    pictures, tokenizer = inputs(arguments)
    originals = [picture.pixels for picture in pictures]
    distance = TextureDistance(originals, SEED)
    points = measure_ours(tokenizer, pictures, distance, knobs(tokenizer, arguments.realism, arguments.steps))
    name = run_name(arguments)
    kept = arguments.results / f"peers-{name}.json"
    for codec in all_peers():
        if codec.name in PEERS:
            points += measure_peer(codec, pictures, distance, kept)
    floor = distance.of(originals, places_seed=SEED + 1)
    report = Report(name, len(pictures), tuple(points), tuple(distance.sides_px), tuple(floor))
    stem = arguments.results / f"perception-{name}"
    write_results(stem, page(report, tokenizer), facts(name, len(pictures), tokenizer) | as_json(report))
    if can_plot():
        plot(report, stem.with_suffix(".png"), title=f"{name}, model {tokenizer.fingerprint}")


def _parse() -> argparse.Namespace:
    command = parser(__doc__, crop_px=256)
    command.add_argument("--realism", type=float, nargs="+", default=[0.25, 0.5, 0.75, 1.0])
    command.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    return command.parse_args()


if __name__ == "__main__":
    main()
