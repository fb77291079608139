"""ONNX graph in fp32 -> the same graph with int8 convolutions. Knows no pictures and no artifacts.

    x ─ Q ─ DQ ─┐
    weights int8 ─ DQ ─ Conv ─ Q ─ DQ ─ y        ONNX Runtime fuses this to QLinearConv: integers inside

Only what a convolution reads and writes is rounded. Everything else stays fp32: the transform back to pixels,
the modulation, and the trunk that residual blocks add to. The quantizer that comes with ONNX Runtime rounds
the trunk, too, which is no faster (docs/log.md).
Ranges are fixed in the file. Dynamic quantization takes them from the batch at run time, and a picture would
depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from tokenizer.onnx_session import OnnxSession

# 7 bits, -63..63: processors without VNNI add two products of u8 x s8 in 16 bits, and 2 * 255 * 63 still
# fits, so every processor gets the same sum. Against 8 bits it cost less than 0.003 dB (docs/log.md).
WEIGHT_LIMIT = 63
ACTIVATION_LIMIT = 255
# Share of a tensor's values within its range, on the picture with the widest. The outermost 0.001 % would
# stretch the range further: whole ranges gave 2 dB less agreement with fp32. With 0.9999 a single picture
# fell to 37 dB from its fp32 decode (docs/log.md).
RANGE_SHARE = 0.99999
# A tensor that is zero on all pictures, and a channel whose weights are, still need a scale.
MIN_RANGE = 1e-6
MIN_WEIGHT_SCALE = 1e-12
# Biases are kept in the unit of the sums; half of int32 leaves room for the sum itself.
BIAS_LIMIT = 2**30

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Range:
    """Values that a tensor takes; always holds 0, which padding needs exactly."""

    low: float
    high: float

    @property
    def scale(self) -> np.float32:
        """Width of one of the 255 steps."""
        return np.float32(max(self.high - self.low, MIN_RANGE) / ACTIVATION_LIMIT)

    @property
    def zero_point(self) -> np.uint8:
        """The step that stands for 0."""
        return np.uint8(np.clip(np.rint(-self.low / self.scale), 0, ACTIVATION_LIMIT))


def convolutions(model: ModelProto) -> list[NodeProto]:
    """All convolutions whose weights are constants."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [n for n in model.graph.node if n.op_type == "Conv" and constants.issuperset(n.input[1:])]


def measure_ranges(graph: bytes, passes: Iterable[Arrays]) -> dict[str, Range]:
    """Range of everything that a convolution reads or writes, the widest of all passes."""
    model = onnx.load_from_string(graph)
    names = sorted({name for node in convolutions(model) for name in (node.input[0], node.output[0])})
    present = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    session = OnnxSession(model.SerializeToString())
    shares = ((1 - RANGE_SHARE), RANGE_SHARE)
    found = [
        [np.quantile(out[name], shares) for name in names]
        for out in (session.run(**arrays) for arrays in passes)
    ]
    lows, highs = np.asarray(found).min(0)[:, 0], np.asarray(found).max(0)[:, 1]
    return {
        name: Range(min(float(low), 0.0), max(float(high), 0.0))
        for name, low, high in zip(names, lows, highs, strict=True)
    }


def quantize_graph(graph: bytes, ranges: Mapping[str, Range], keep: Collection[str] = ()) -> bytes:
    """The graph with every convolution in int8 but those whose weights are named in `keep`; pure."""
    model = onnx.load_from_string(graph)
    chosen = {node.output[0] for node in convolutions(model) if node.input[1] not in keep}
    rewriter = _Rewriter(model, ranges)
    nodes = [
        new
        for node in model.graph.node
        for new in (rewriter.convolution(node) if node.output[0] in chosen else [rewriter.reader(node)])
    ]
    _replace_nodes(model, nodes, rewriter.constants)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Rewriter:
    """Walks the nodes in their order; remembers which tensors have a rounded version by now."""

    def __init__(self, model: ModelProto, ranges: Mapping[str, Range]) -> None:
        self._weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._ranges = ranges
        self._have_rounded: set[str] = set()
        # Of what a convolution puts out everybody reads the rounded version; of the rest, convolutions alone.
        self._outputs: set[str] = set()
        self.constants: dict[str, np.ndarray] = {}

    def reader(self, node: NodeProto) -> NodeProto:
        """Any other node, reading the rounded version of convolutions' outputs."""
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [_rounded(name) if name in self._outputs else name for name in node.input]
        return copy

    def convolution(self, node: NodeProto) -> Iterator[NodeProto]:
        """The convolution with what rounds its input, weights, bias and output."""
        source, target = node.input[0], node.output[0]
        if source not in self._have_rounded:
            yield from self._round(source)
        yield from self._weight(node.input[1], *node.input[2:], input_scale=self._ranges[source].scale)
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [_rounded(name) for name in node.input]
        yield copy
        yield from self._round(target)
        self._outputs.add(target)

    def _round(self, name: str) -> Iterator[NodeProto]:
        found = self._ranges[name]
        self._have_rounded.add(name)
        scale, zero = f"{name}.scale", f"{name}.zero"
        self.constants |= {scale: np.asarray(found.scale), zero: np.asarray(found.zero_point)}
        yield helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}.int8"], f"{name}.Q")
        yield helper.make_node(
            "DequantizeLinear", [f"{name}.int8", scale, zero], [_rounded(name)], f"{name}.DQ"
        )

    def _weight(self, name: str, *biases: str, input_scale: np.float32) -> Iterator[NodeProto]:
        """Weights int8 with one scale per output channel; a bias int32 in the unit of the sums."""
        weight = self._weights[name]
        scale = np.maximum(np.abs(weight).reshape(len(weight), -1).max(1) / WEIGHT_LIMIT, MIN_WEIGHT_SCALE)
        for bias in biases:  # a large bias beside tiny weights needs a coarser unit
            scale = np.maximum(scale, np.abs(self._weights[bias]) / (BIAS_LIMIT * input_scale))
        scale = scale.astype(np.float32)
        yield from self._constant(name, weight / scale.reshape(-1, *[1] * (weight.ndim - 1)), np.int8, scale)
        for bias in biases:
            unit = scale * input_scale
            yield from self._constant(bias, self._weights[bias].astype(np.float64) / unit, np.int32, unit)

    def _constant(
        self, name: str, steps: np.ndarray, kind: type[np.signedinteger[Any]], scale: np.ndarray
    ) -> Iterator[NodeProto]:
        names = [f"{name}.int", f"{name}.scale", f"{name}.zero"]
        values = (np.rint(steps).astype(kind), scale, np.zeros(len(scale), kind))
        self.constants |= dict(zip(names, values, strict=True))
        yield helper.make_node("DequantizeLinear", names, [_rounded(name)], f"{name}.DQ", axis=0)


def _rounded(name: str) -> str:
    return f"{name}.rounded"


def _replace_nodes(model: ModelProto, nodes: list[NodeProto], constants: Arrays) -> None:
    """Put other nodes into a model, and keep only the constants that they read."""
    graph = model.graph
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    new = [numpy_helper.from_array(value, name) for name, value in sorted(constants.items())]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept + new)
