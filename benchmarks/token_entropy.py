"""How much do the tokens carry? Entropy of every bit of the stream, and what a static code would save.

    python -m benchmarks.token_entropy --images FOLDER_OR_SHARD [--crop 256] [--model PATH]

Prints and writes `benchmarks/results/token_entropy-NAME-256.{md,json,png}`. Bits are counted one by one,
because 256 values per token would need far more pictures than there are, and in three ways: by place in the
stream, by what a bit means (frequency group, plane, and the bits of the same coefficient before it), and by
class and meaning. Entropies are corrected for the small number of samples (Miller and Madow); beside them
stands what a code really costs whose tables come from the other half of the pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.bit_statistics import BitCounts, cross_cost_bits, entropy_bits
from benchmarks.command import facts, inputs, parser, run_name, write_results
from benchmarks.ours import BATCH_SIZE
from benchmarks.pictures import Picture
from benchmarks.report import can_plot
from benchmarks.token_entropy_report import Entropies, as_json, page, plot
from tokenizer import Coding, ImageTokenizer, TokenSequence
from tokenizer.spectral import BITS_PER_TOKEN, BitOrder, SpectralLayout

Contexts = NDArray[np.int64]


def encoded(tokenizer: ImageTokenizer, pictures: Sequence[Picture]) -> Iterator[TokenSequence]:
    """All tokens of each picture."""
    for start in track(range(0, len(pictures), BATCH_SIZE), description="token entropy"):
        batch = [picture.pixels for picture in pictures[start : start + BATCH_SIZE]]
        yield from tokenizer.encode(batch, coding=Coding.FIXED)


def meanings(layout: SpectralLayout, sequence: TokenSequence, bits: NDArray[np.uint8]) -> Contexts:
    """Number of what each bit means, i64[M]: its group, and the cell that it halves.

    The cell is the heap index of the quantizer, 1 for the sign, so plane and earlier bits are both in it.
    """
    order = layout.order(layout.class_of(sequence.tokens), sequence.canvas)
    group = layout.groups(sequence.canvas)[order.coefficient]
    return (group << layout.tables.num_planes) + halved_cells(order, bits)


def halved_cells(order: BitOrder, bits: NDArray[np.uint8]) -> Contexts:
    """Heap index of the cell that each bit of a whole stream halves, i64[M]."""
    at, plane = order.coefficient, order.plane.astype(np.int64)
    planes = np.bincount(at, minlength=len(order.sigma))
    value = bits.astype(np.int64) << (planes[at] - 1 - plane)
    cell = np.bincount(at, weights=value, minlength=len(order.sigma)).astype(np.int64)
    return (1 << plane) + (cell[at] >> (planes[at] - plane))


def measure(tokenizer: ImageTokenizer, pictures: Sequence[Picture]) -> Entropies:
    """Bits per token in three ways of counting."""
    layout, sequences = tokenizer.codec.spectral, list(encoded(tokenizer, pictures))
    length = min(sequence.length for sequence in sequences)
    bits = np.stack([_bits(one)[: BITS_PER_TOKEN * (length - 1)] for one in sequences])
    place = np.arange(bits.shape[1])
    classes = np.array([layout.class_of(sequence.tokens) for sequence in sequences])
    by_meaning = np.stack([meanings(layout, one, _bits(one))[: bits.shape[1]] for one in sequences])
    ways = {
        "place": np.broadcast_to(place, bits.shape),
        "meaning": by_meaning,
        "class and meaning": classes[:, None] * (int(by_meaning.max()) + 1) + by_meaning,
    }
    class_counts = np.bincount(classes, minlength=layout.tables.num_classes)
    return Entropies(
        entropy_bits(class_counts),
        int(np.count_nonzero(class_counts)),
        {name: _per_token(corrected(bits, contexts)) for name, contexts in ways.items()},
        {name: _per_token(cross_fitted(bits, contexts)) for name, contexts in ways.items()},
    )


def corrected(bits: NDArray[np.uint8], contexts: Contexts) -> NDArray[np.float64]:
    """Entropy at each place, the mean over pictures of that of the bit's context, f64[M]."""
    per_context = BitCounts.of(bits, contexts, int(contexts.max()) + 1).entropies()
    return np.mean([per_context[row] for row in contexts], axis=0)


def cross_fitted(bits: NDArray[np.uint8], contexts: Contexts) -> NDArray[np.float64]:
    """Cost at each place with tables from the other half of the pictures, f64[M]: even and odd ones."""
    size = int(contexts.max()) + 1
    costs = np.zeros(bits.shape[1])
    for half in (0, 1):
        counts = BitCounts.of(bits[1 - half :: 2], contexts[1 - half :: 2], size)
        for row, context in zip(bits[half::2], contexts[half::2], strict=True):
            costs += cross_cost_bits(counts, row, context)
    return costs / len(bits)


def _bits(sequence: TokenSequence) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(sequence.tokens, np.uint8, offset=1))


def _per_token(per_bit: NDArray[np.float64]) -> NDArray[np.float64]:
    return per_bit.reshape(-1, BITS_PER_TOKEN).sum(1)


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__).parse_args()
    pictures, tokenizer = inputs(arguments)
    found, name = measure(tokenizer, pictures), run_name(arguments)
    stem = arguments.results / f"token_entropy-{name}"
    text = page(found, name, len(pictures), tokenizer)
    write_results(stem, text, facts(name, len(pictures), tokenizer) | as_json(found))
    if can_plot():
        title = f"{name}, {len(pictures)} pictures, model {tokenizer.fingerprint}"
        plot(found, stem.with_suffix(".png"), title=title)


if __name__ == "__main__":
    main()
