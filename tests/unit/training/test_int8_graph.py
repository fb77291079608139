"""fp32 graph -> int8 graph, on one residual block of which every number is known."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tokenizer.onnx_session import OnnxSession
from training.int8_graph import MIN_RANGE, WEIGHT_LIMIT, Range, convolutions, measure_ranges, quantize_graph

WIDTH = 8


@pytest.fixture(scope="module")
def block() -> bytes:
    """y = x + conv(relu(conv(x))), the first without a bias."""
    rng = np.random.default_rng(0)
    weights = {
        "first": rng.normal(size=(WIDTH, WIDTH, 3, 3)),
        "second": rng.normal(size=(WIDTH, WIDTH, 3, 3)) * 4.0 ** -np.arange(WIDTH).reshape(-1, 1, 1, 1),
        "bias": rng.normal(size=WIDTH),
    }
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second", "bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    shape = ["batch", WIDTH, "h", "w"]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def passes() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(1, WIDTH, 16, 16)).astype(np.float32)} for _ in range(4)]


@pytest.fixture(scope="module")
def int8(block: bytes, passes: list[dict[str, np.ndarray]]) -> bytes:
    return quantize_graph(block, measure_ranges(block, passes))


def test_the_int8_graph_computes_nearly_the_same(block: bytes, int8: bytes, passes: list) -> None:
    wanted, got = (OnnxSession(graph).run(**passes[0])["y"] for graph in (block, int8))
    assert not np.array_equal(wanted, got)
    assert np.sqrt(np.mean((wanted - got) ** 2)) < 0.05 * wanted.std()


def test_the_runtime_convolves_in_integers(int8: bytes, tmp_path) -> None:
    """Left alone, quantize and dequantize around a float convolution would only be slower."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2
    assert "Conv" not in kinds


def test_weights_are_so_small_that_no_processor_saturates(int8: bytes) -> None:
    constants = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(int8).graph.initializer}
    for name in ("first.int", "second.int"):
        assert constants[name].dtype == np.int8
        assert np.abs(constants[name]).max() == WEIGHT_LIMIT
        # One scale per channel: each uses its whole range, however small its weights are.
        assert (np.abs(constants[name]).reshape(WIDTH, -1).max(1) == WEIGHT_LIMIT).all()
    assert 2 * 255 * WEIGHT_LIMIT < 2**15


def test_the_trunk_of_a_block_is_not_rounded(int8: bytes) -> None:
    (addition,) = (node for node in onnx.load_from_string(int8).graph.node if node.op_type == "Add")
    assert list(addition.input) == ["x", "c.rounded"]


def test_fp32_weights_do_not_stay_in_the_file(block: bytes, int8: bytes) -> None:
    names = {tensor.name for tensor in onnx.load_from_string(int8).graph.initializer}
    assert names.isdisjoint({"first", "second", "bias"})
    assert len(convolutions(onnx.load_from_string(block))) == 2


def test_quantizing_twice_gives_the_same_bytes(block: bytes, int8: bytes, passes: list) -> None:
    assert quantize_graph(block, measure_ranges(block, passes)) == int8


def test_a_large_bias_survives_beside_tiny_weights(block: bytes, passes: list) -> None:
    """A dead channel is its bias and nothing else; in units of its weights the bias would not fit."""
    model = onnx.load_from_string(block)
    (second,) = (tensor for tensor in model.graph.initializer if tensor.name == "second")
    weight = numpy_helper.to_array(second).copy()
    weight[:2] = np.array([0.0, 1e-15], np.float32).reshape(2, 1, 1, 1)
    second.CopyFrom(numpy_helper.from_array(weight, "second"))
    graph = bytes(model.SerializeToString())
    quantized = quantize_graph(graph, measure_ranges(graph, passes))
    wanted, got = (OnnxSession(g).run(**passes[0])["y"] - passes[0]["x"] for g in (graph, quantized))
    np.testing.assert_allclose(got[:, :2], wanted[:, :2], atol=measure_ranges(graph, passes)["c"].scale)


def test_a_range_is_the_widest_of_all_passes(block: bytes, passes: list) -> None:
    each = [measure_ranges(block, [one])["a"] for one in passes]
    both = measure_ranges(block, passes)["a"]
    assert both == Range(min(r.low for r in each), max(r.high for r in each))


@pytest.mark.parametrize("found", [Range(-1.0, 3.0), Range(0.0, 0.2), Range(-5.0, 0.0), Range(0.0, 0.0)])
def test_the_steps_of_a_range_reach_its_ends_and_zero(found: Range) -> None:
    """Padding is zero; if it were rounded, every border of a picture would show it."""
    assert found.zero_point.dtype == np.uint8
    assert found.scale > 0
    reached = (0 - float(found.zero_point)) * found.scale, (255 - float(found.zero_point)) * found.scale
    np.testing.assert_allclose(reached, (found.low, found.high), atol=max(found.scale, 2 * MIN_RANGE))
