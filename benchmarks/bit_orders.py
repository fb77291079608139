"""The same bits of one picture in other orders, and what any set of them decodes to. Knows no network.

An order is a permutation of a stream's bit positions (token 0, which names the class, is not among them:
every decode is given it). A coefficient's bit p halves the cell that its bits 0..p-1 left, so it says nothing
without them; `decode_bits` drops what cannot be used. Legend: M = bits of a whole stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tokenizer.canvas import Size
from tokenizer.spectral import BITS_PER_TOKEN, BitOrder, SpectralLayout, block_size

Positions = NDArray[np.int64]
Reorder = Callable[[BitOrder, np.random.Generator], Positions]


def as_sent(order: BitOrder, rng: np.random.Generator) -> Positions:
    """The order of the stream."""
    return np.arange(len(order.coefficient))


def random_tokens(order: BitOrder, rng: np.random.Generator) -> Positions:
    """Whole tokens, shuffled."""
    return rng.permutation(as_sent(order, rng).reshape(-1, BITS_PER_TOKEN)).reshape(-1)


def reversed_tokens(order: BitOrder, rng: np.random.Generator) -> Positions:
    """Whole tokens, last first."""
    return as_sent(order, rng).reshape(-1, BITS_PER_TOKEN)[::-1].reshape(-1)


def random_bits(order: BitOrder, rng: np.random.Generator) -> Positions:
    """Bits shuffled and dealt again so that each coefficient's planes come in order: all can be used."""
    return planes_in_order(order, rng.permutation(len(order.coefficient)))


def reversed_bits(order: BitOrder, rng: np.random.Generator) -> Positions:
    """Bits last first, dealt again in the same way."""
    return planes_in_order(order, as_sent(order, rng)[::-1])


def planes_in_order(order: BitOrder, positions: Positions) -> Positions:
    """The same places for each coefficient as in `positions`, its planes in order on them."""
    places = np.argsort(order.coefficient[positions], kind="stable")
    dealt = np.empty_like(positions)
    dealt[places] = np.argsort(order.coefficient, kind="stable")
    return dealt


def usable(order: BitOrder, positions: Positions) -> Positions:
    """Those positions all of whose coefficient's earlier planes are among `positions` as well."""
    coefficient, plane = order.coefficient[positions], order.plane[positions]
    kept = np.zeros((int(order.plane.max()) + 1, len(order.sigma)), bool)
    kept[plane, coefficient] = True
    for earlier, later in pairwise(kept):
        later &= earlier
    return positions[kept[plane, coefficient]]


def decode_bits(
    layout: SpectralLayout, tokens: bytes, positions: Positions, canvas: Size
) -> NDArray[np.float32]:
    """Conditional means f32[3, bh, bw] given token 0 and the usable ones of these bits of a whole stream."""
    order = layout.order(layout.class_of(tokens), canvas)
    bits = np.unpackbits(np.frombuffer(tokens, np.uint8, offset=1))
    chosen = usable(order, positions)
    subset = replace(order, coefficient=order.coefficient[chosen], plane=order.plane[chosen])
    return layout.dequantize(bits[chosen], subset, canvas).reshape(3, *block_size(canvas))
