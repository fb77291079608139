"""Picture quality at 16 to 2048 bytes: our tokens and files against the codecs people would use instead.

    python -m benchmarks.rate_distortion --images FOLDER --crop 256 [--model PATH] [--also NAME=PATH]

Prints and writes `benchmarks/results/rate_distortion-FOLDER-256.{md,json,png}`: mean PSNR (RGB, 8 bit),
MS-SSIM and explained variance at each byte count, whether quality ever falls as bytes grow, and the plot.
The line "linear codec" is the model without its networks: what training started from. `--also` adds another
model as a line.

Peers are whole files, headers included, each with its best downsampled size and quality per picture and
byte count (Lanczos down, Lanczos up, chosen by PSNR). Ours is one stream per picture, cut. `(k/n)` means
that a codec reaches that byte count for k of n pictures only; a dash, for none. The peers take minutes per
folder; their scores are kept in `benchmarks/results/peers-FOLDER-256.json` and measured again only where
something changed. Codecs that are not installed are left out, and the page says so
(`pip install tessera[bench]` brings them).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import model_facts, parser, run_name
from benchmarks.linear import LinearTokenizer
from benchmarks.ours import measure_tokens_and_files
from benchmarks.peer_cache import measure_peers
from benchmarks.peers import all_peers, missing_peers
from benchmarks.pictures import Picture, load_pictures
from benchmarks.rate_distortion_report import Measured, as_json, page, plot
from benchmarks.report import can_plot, write_json
from benchmarks.scores import BYTE_COUNTS, Series
from tokenizer import Coding, ImageTokenizer


def main() -> None:
    """Measure, print, write."""
    arguments = _parse()
    pictures = load_pictures(arguments.images, crop_px=arguments.crop, limit=arguments.limit)
    name = run_name(arguments)
    codecs = all_peers()
    kept_path = arguments.results / f"peers-{name}.json"
    peers = measure_peers(codecs, pictures, BYTE_COUNTS, kept_path, jobs=arguments.jobs)
    if arguments.peers_only:
        return
    ours, model = _measure_ours(arguments, pictures)
    measured = Measured(name, BYTE_COUNTS, pictures, [*ours, *peers], model, missing_peers(codecs))
    _write(arguments.results / f"rate_distortion-{name}", measured)


def _measure_ours(
    arguments: argparse.Namespace, pictures: Sequence[Picture]
) -> tuple[list[Series], dict[str, str]]:
    tokenizer = ImageTokenizer.from_pretrained(arguments.model, num_threads=arguments.threads)
    series = [*measure_tokens_and_files(tokenizer, pictures, BYTE_COUNTS, "Tessera")]
    linear = LinearTokenizer(tokenizer.artifact, num_threads=arguments.threads)
    tokens, _ = measure_tokens_and_files(linear, pictures, BYTE_COUNTS, "linear")
    series.append(Series("linear codec", tokens.rows, is_ours=True))
    tokens, _ = measure_tokens_and_files(tokenizer, pictures, BYTE_COUNTS, "fixed", Coding.FIXED)
    series.append(Series("Tessera, fixed coding", tokens.rows, is_ours=True))
    for label, path in arguments.also:
        other = ImageTokenizer.from_pretrained(path, num_threads=arguments.threads)
        tokens, _ = measure_tokens_and_files(other, pictures, BYTE_COUNTS, label)
        series.append(Series(label, tokens.rows, is_ours=True))
    return series, model_facts(tokenizer)


def _write(stem: Path, measured: Measured) -> None:
    text = page(measured)
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text)
    write_json(stem.with_suffix(".json"), as_json(measured))
    print(text)
    if can_plot():
        plot(measured, stem.with_suffix(".png"))


def _named_path(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, Path(path)


def _parse() -> argparse.Namespace:
    command = parser(__doc__)
    command.add_argument("--also", type=_named_path, action="append", default=[], metavar="NAME=PATH")
    command.add_argument("--peers-only", action="store_true", help="only measure and keep the peers")
    command.add_argument("--jobs", type=int, default=1, help="processes for peers")
    return command.parse_args()


if __name__ == "__main__":
    main()
