"""Is the order of tokens PCA-like? Explained variance of prefixes, and of the same bits in other orders.

    python -m benchmarks.order --images FOLDER [--crop 256] [--model PATH]

Prints and writes `benchmarks/results/order-FOLDER-256.{md,json,png}`: the share of pixel variance that each
prefix explains, whether it ever falls, what as many bytes give in random and reversed order and with one
fixed spectrum, and whether each step is orthogonal to what it leaves (as principal components are).

The questions follow Semanticist ("Principal Components" Enable A New Language of Images, Wen et al.,
ICCV 2025, arXiv 2503.08685), whose explained variance is a share of a diffusion loss; here it is of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks import bit_orders
from benchmarks.command import facts, inputs, parser, run_name, write_results
from benchmarks.fixed_spectrum import Analysed, fit_fixed_spectrum
from benchmarks.linear import LinearTokenizer
from benchmarks.order_report import FIXED_SPECTRUM, NETWORK, PREFIX, Found, as_json, page, plot
from benchmarks.ours import decode_prefixes
from benchmarks.pictures import Picture, Pixels
from benchmarks.report import can_plot
from benchmarks.scores import BYTE_COUNTS, pixel_variance
from tokenizer import Coding, ImageTokenizer, TokenSequence
from tokenizer.canvas import Size, choose_canvas
from tokenizer.preprocess import resize, to_model_input
from tokenizer.quality import mse
from tokenizer.spectral import BITS_PER_TOKEN, SpectralLayout, block_size, dct_basis

# Other orders of the stream's bits, and how many of them: a random one is drawn three times.
OTHER_ORDERS: dict[str, tuple[bit_orders.Reorder, int]] = {
    "random bits": (bit_orders.random_bits, 3),
    "reversed bits": (bit_orders.reversed_bits, 1),
    "random tokens": (bit_orders.random_tokens, 3),
    "reversed tokens": (bit_orders.reversed_tokens, 1),
}


def measure(
    tokenizer: ImageTokenizer, linear: LinearTokenizer, picture: Picture, fixed: SpectralLayout, seed: int
) -> Found:
    """Squared errors of one picture in every order, and the angle between each step and what it leaves."""
    # A bit of the range coding has no meaning without those before it; there is no other order to compare.
    (whole,) = tokenizer.encode([picture.pixels], coding=Coding.FIXED)
    lengths = [min(count, whole.length) for count in BYTE_COUNTS]
    with_network = _in_order(decode_prefixes(tokenizer, whole, lengths), lengths)
    without = _in_order(decode_prefixes(linear, whole, lengths), lengths)
    errors = {NETWORK: _errors(picture, with_network), PREFIX: _errors(picture, without)}
    shares = {}
    for name, (reorder, draws) in OTHER_ORDERS.items():
        drawn = [_reordered(linear, whole, reorder, lengths, (seed, draw)) for draw in range(draws)]
        errors[name] = np.mean([_errors(picture, pixels) for pixels, _ in drawn], axis=0).tolist()
        shares[name] = np.mean([usable for _, usable in drawn], axis=0).tolist()
    analysed = analyse(tokenizer, picture)
    errors[FIXED_SPECTRUM] = _errors(picture, _fixed(linear, fixed, analysed, lengths, whole.source))
    cosines = {
        NETWORK: cosines_of_steps(picture.pixels, with_network),
        PREFIX: cosines_of_steps(picture.pixels, without),
    }
    return Found(picture.name, errors, shares, cosines)


def analyse(tokenizer: ImageTokenizer, picture: Picture) -> Analysed:
    """Coefficients of the picture itself, untouched by a network."""
    canvas = choose_canvas(Size(picture.pixels.shape[1], picture.pixels.shape[0]))
    bh, bw = block_size(canvas)
    out = tokenizer.encoder.run(
        image=to_model_input([resize(picture.pixels, canvas)]),
        vertical=dct_basis(canvas.height_px, bh),
        horizontal=dct_basis(canvas.width_px, bw),
    )
    return out["reference"][0], canvas


def cosines_of_steps(original: Pixels, prefixes: Sequence[Pixels]) -> list[float]:
    """cos(later - earlier, original - later) for neighbouring prefixes; 0 where either is nothing.

    A conditional mean leaves an error that is orthogonal to everything the bits tell, so to the step as well.
    Above 0: the step went not far enough; below 0: too far.
    """
    return [
        _cosine(after.astype(np.float64) - before, original.astype(np.float64) - after)
        for before, after in pairwise(prefixes)
    ]


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / length if length > 0 else 0.0


def _reordered(
    linear: LinearTokenizer,
    whole: TokenSequence,
    reorder: bit_orders.Reorder,
    lengths: Sequence[int],
    seed: tuple[int, int],
) -> tuple[list[Pixels], list[float]]:
    """Linear decodes of token 0 and `length - 1` tokens of another order; the share of usable bits."""
    layout, canvas = linear.codec.spectral, whole.canvas
    order = layout.order(layout.class_of(whole.tokens), canvas)
    positions = reorder(order, np.random.default_rng(seed))
    kept = [positions[: BITS_PER_TOKEN * (length - 1)] for length in lengths]
    means = np.stack([bit_orders.decode_bits(layout, whole.tokens, one, canvas) for one in kept])
    usable = [len(bit_orders.usable(order, one)) / max(1, len(one)) for one in kept]
    return _at_source_size(linear, means, canvas, whole.source), usable


def _fixed(
    linear: LinearTokenizer, fixed: SpectralLayout, analysed: Analysed, lengths: Sequence[int], source: Size
) -> list[Pixels]:
    """Decodes of the coder without classes; no byte goes to a class, so it gets one token of bits more."""
    coefficients, canvas = analysed
    tokens = fixed.encode(coefficients, canvas)
    means = np.stack([fixed.decode(tokens[: 1 + length], canvas) for length in lengths])
    return _at_source_size(linear, means, canvas, source)


def _at_source_size(
    linear: LinearTokenizer, means: NDArray[np.float32], canvas: Size, source: Size
) -> list[Pixels]:
    return [resize(pixels, source) for pixels in linear.pictures(means, canvas)]


def _in_order(decoded: dict[int, Pixels], lengths: Sequence[int]) -> list[Pixels]:
    return [decoded[length] for length in lengths]


def _errors(picture: Picture, decoded: Sequence[Pixels]) -> list[float]:
    return [mse(picture.pixels, pixels) for pixels in decoded]


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__).parse_args()
    pictures, tokenizer = inputs(arguments)
    linear = LinearTokenizer(tokenizer.artifact, num_threads=arguments.threads)
    fixed = fit_fixed_spectrum(tokenizer.artifact.tables, [analyse(tokenizer, one) for one in pictures])
    found = [
        measure(tokenizer, linear, picture, fixed, seed)
        for seed, picture in enumerate(track(pictures, description="order"))
    ]
    name, variance = run_name(arguments), pixel_variance(pictures)
    stem = arguments.results / f"order-{name}"
    content = facts(name, len(pictures), tokenizer) | as_json(found, pictures, variance)
    write_results(stem, page(found, pictures, variance, name, tokenizer), content)
    if can_plot():
        plot(
            found,
            pictures,
            variance,
            stem.with_suffix(".png"),
            title=f"{name}, model {tokenizer.fingerprint}",
        )


if __name__ == "__main__":
    main()
