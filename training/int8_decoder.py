"""The int8 decoder of an fp32 graph: ranges come from training pictures in both codings, at many lengths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.progress import track

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.preprocess import to_model_input
from training.curves import Codec, basis_of, decoder_inputs
from training.data import PictureSet
from training.int8_graph import Arrays, measure_ranges, quantize_graph

# Prefixes of each picture besides its whole stream.
LENGTHS_PER_PICTURE = 3
SEED = 0


def int8_decoder(graph: bytes, codec: Codec, pictures: PictureSet, canvas: Size) -> bytes:
    """The graph with its convolutions in int8."""
    return quantize_graph(graph, measure_ranges(graph, calibration_passes(codec, pictures, canvas)))


def calibration_passes(codec: Codec, pictures: PictureSet, canvas: Size) -> Iterator[Arrays]:
    """Decoder inputs of each picture's whole stream and of prefixes, log-uniform; codings take turns."""
    rng = np.random.default_rng(SEED)
    batches = pictures.centre_batches(1, canvas)
    for number, batch in enumerate(
        track(batches, f"ranges of {len(pictures)} pictures", total=len(pictures))
    ):
        coding = list(Coding)[number % len(Coding)]
        out = codec.encoder.run(image=to_model_input(list(batch)), **basis_of(canvas))
        coefficients, reference = out["coefficients"][0], out["reference"][0]
        whole = codec.layout.encode(coefficients, reference, float(out["energy"][0]), canvas, coding).tokens
        drawn = np.exp(rng.uniform(0, np.log(len(whole)), LENGTHS_PER_PICTURE))
        for length in (*drawn.astype(int).tolist(), len(whole)):
            means, expected = codec.layout.decode(whole[:length], canvas, coding)
            yield decoder_inputs([(means, expected, length)], canvas)
