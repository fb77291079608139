"""The refiner of an int8 artifact: convolutions in int8, all other large constants stored in fp16.

The first and the last convolution stay floats. The first reads residuals, which reach 8, beside pictures
within -1..1: in 255 common steps a smooth sky would get steps of 8 grey levels. The last writes what is added
to the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.progress import track

from tokenizer import Coding, ImageTokenizer, TokenSequence
from tokenizer.canvas import Size
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import from_model_output
from tokenizer.quality import psnr_db
from tokenizer.realism import DEFAULT_STEPS, Realism, RealismDecoder, WalkFacts
from training.data import PictureSet
from training.int8_graph import Arrays, measure_ranges, quantize_graph

KEPT_FLOAT = ("network.inward.weight", "network.outward.weight")
# Smaller constants are not worth a node that casts them back.
MIN_HALVED = 1024
# Prefixes where the refiner has work to do; beyond, there is nearly nothing left to imagine.
LENGTHS = (32, 1024)
LENGTHS_PER_PICTURE = 2
SEED = 0


def int8_refiner(
    graph: bytes, walk: WalkFacts, tokenizer: ImageTokenizer, pictures: PictureSet, canvas: Size
) -> bytes:
    """The fp32 step with its body in int8; ranges come from walks on these pictures."""
    ranges = measure_ranges(graph, walk_passes(graph, walk, tokenizer, pictures, canvas))
    return store_halves(quantize_graph(graph, ranges, keep=KEPT_FLOAT))


def walk_passes(
    graph: bytes, walk: WalkFacts, tokenizer: ImageTokenizer, pictures: PictureSet, canvas: Size
) -> Iterator[Arrays]:
    """What the step is given on each step of walks from prefixes of each picture; codings take turns."""
    recorder = Recorder(graph)
    decoder = RealismDecoder(recorder, walk)
    for number, sequence in enumerate(prefixes(tokenizer, pictures, canvas)):
        decoder.refine(*fidelity_of(tokenizer, sequence), Realism(1.0, DEFAULT_STEPS, seed=number))
        yield from recorder.taken()


def prefixes(tokenizer: ImageTokenizer, pictures: PictureSet, canvas: Size) -> Iterator[TokenSequence]:
    """Prefixes of each picture at log-uniform lengths; codings take turns."""
    rng = np.random.default_rng(SEED)
    batches = pictures.centre_batches(1, canvas)
    for number, (picture,) in enumerate(
        track(batches, f"walks on {len(pictures)} pictures", total=len(pictures))
    ):
        coding = list(Coding)[number % len(Coding)]
        (whole,) = tokenizer.encode([picture], canvas_area_px=canvas.area_px, coding=coding)
        for length in np.exp(rng.uniform(*np.log(LENGTHS), LENGTHS_PER_PICTURE)).astype(int).tolist():
            yield whole.prefix(min(length, whole.length))


def fidelity_of(
    tokenizer: ImageTokenizer, sequence: TokenSequence
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(fidelity decode f32[1, 3, H, W], length f32[1], expected error f32[1]): what a walk begins with."""
    inputs = tokenizer.decoder_inputs([sequence], sequence.canvas)
    return tokenizer.decoder.run(**inputs)["image"], inputs["length"], inputs["expected_mse"]


class Recorder(OnnxSession):
    """A session that remembers what it was given."""

    def __init__(self, graph: bytes) -> None:
        super().__init__(graph)
        self._given: list[Arrays] = []

    def run(self, **inputs: Any) -> dict[str, Any]:
        """See OnnxSession."""
        self._given.append(inputs)
        return super().run(**inputs)

    def taken(self) -> list[Arrays]:
        """Everything since the last call."""
        given, self._given = self._given, []
        return given


def walk_parity_db(
    graph: bytes,
    other: bytes,
    walk: WalkFacts,
    tokenizer: ImageTokenizer,
    pictures: PictureSet,
    canvas: Size,
) -> list[float]:
    """PSNR between what both graphs walk to from prefixes of each picture."""
    decoders = [RealismDecoder(OnnxSession(one), walk) for one in (graph, other)]
    found = []
    for number, sequence in enumerate(prefixes(tokenizer, pictures, canvas)):
        inputs = fidelity_of(tokenizer, sequence)
        ours, theirs = (
            from_model_output(decoder.refine(*inputs, Realism(1.0, DEFAULT_STEPS, seed=number)))
            for decoder in decoders
        )
        found.append(psnr_db(ours[0], theirs[0]))
    return found


def store_halves(graph: bytes) -> bytes:
    """Large fp32 constants as fp16, cast back once when the graph is loaded; 11 bits, against int8's 7."""
    model = onnx.load_from_string(graph)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= MIN_HALVED:
            name, half = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(
                helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.cast", to=TensorProto.FLOAT)
            )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
