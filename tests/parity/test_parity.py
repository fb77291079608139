"""torch against numpy, and torch against ONNX Runtime: cells by border, pictures by decibels."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from generated_pictures import picture
from numpy_codec import formula_tables, random_coefficients

from tokenizer.artifact import GRAPHS, ModelArtifact
from tokenizer.canvas import Size
from tokenizer.config import TokenizerConfig
from tokenizer.model import AdaptiveTokenizer, DistortionHead
from tokenizer.model.halting import HeadSizes
from tokenizer.model.quantizer import EmbeddedQuantizer
from tokenizer.onnx_session import OnnxSession
from tokenizer.spectral import SpectralLayout, SpectralTables, block_size
from training import export
from training.checkpoint import config_from_dict, load_checkpoint, tables_from_dict
from training.context_model import starting_tables

# On 16 x 16 a whole stream holds every bit of every coefficient: all plane counts occur.
CANVAS = Size(16, 16)


@pytest.fixture(scope="module", params=["formula", "fitted"])
def tables(request: pytest.FixtureRequest) -> SpectralTables:
    if request.param == "formula":
        return formula_tables()
    return ModelArtifact.load(request.getfixturevalue("tiny_artifact")).tables


@pytest.fixture(scope="module")
def artifact(tiny_artifact: Path) -> ModelArtifact:
    return ModelArtifact.load(tiny_artifact)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> AdaptiveTokenizer:
    """The torch model behind the tiny artifact."""
    state = load_checkpoint(tiny_checkpoint)
    model = AdaptiveTokenizer(config_from_dict(state["config"]).model, tables_from_dict(state["tables"]))
    model.load_state_dict(state["average"])
    return model.eval()


def batch(count: int, canvas: Size) -> np.ndarray:
    return np.stack([picture(seed, canvas.width_px, canvas.height_px) for seed in range(60, 60 + count)])


def test_both_quantizers_put_every_coefficient_in_the_same_cell(tables: SpectralTables) -> None:
    layout, quantizer = SpectralLayout(tables), EmbeddedQuantizer(tables, CANVAS)
    for class_id in range(tables.num_classes):
        order = layout.order(class_id, CANVAS)
        coefficients = random_coefficients(order.sigma, block_size(CANVAS), seed=class_id)
        theirs = quantizer.cells(torch.from_numpy(coefficients).reshape(1, -1), torch.tensor([class_id]))
        ours = layout.cells(coefficients, class_id, CANVAS)
        assert np.array_equal(theirs[0].numpy()[order.coefficient], ours)


def test_both_quantizers_decode_the_same_means_at_every_plane_count(tables: SpectralTables) -> None:
    layout, quantizer = SpectralLayout(tables), EmbeddedQuantizer(tables, CANVAS)
    lengths = [0, 1, 2, 3, 9, 33, 100, layout.max_tokens(CANVAS) // 2, layout.max_tokens(CANVAS)]
    seen: set[int] = set()
    for class_id in range(tables.num_classes):
        order = layout.order(class_id, CANVAS)
        coefficients = random_coefficients(order.sigma, block_size(CANVAS), seed=50 + class_id)
        tokens = layout.tokens(layout.cells(coefficients, class_id, CANVAS), class_id, CANVAS)
        class_B, length_B = torch.full((len(lengths),), class_id), torch.tensor(lengths)
        repeated = torch.from_numpy(coefficients).reshape(1, -1).repeat(len(lengths), 1)
        theirs = quantizer(repeated, class_B, length_B).numpy()
        ours = np.stack([layout.decode(tokens[:length], CANVAS).reshape(-1) for length in lengths])
        np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-6)
        seen |= set(quantizer.planes_sent(class_B, length_B).unique().tolist())
    assert seen == set(range(tables.num_planes + 1))


def test_both_quantizers_expect_the_same_error(tables: SpectralTables) -> None:
    layout, quantizer = SpectralLayout(tables), EmbeddedQuantizer(tables, CANVAS)
    for class_id in range(tables.num_classes):
        for length in (1, 2, 30, layout.max_tokens(CANVAS)):
            tokens = bytes((class_id,)) + bytes(length - 1)
            theirs = quantizer.expected_mse(torch.tensor([class_id]), torch.tensor([length]))
            assert layout.expected_mse(tokens, CANVAS) == pytest.approx(float(theirs), rel=1e-6)


def test_the_gradient_passes_where_a_bit_is_sent_and_nowhere_else() -> None:
    quantizer = EmbeddedQuantizer(formula_tables(), CANVAS)
    coefficients = torch.randn(2, 3 * 16 * 16, requires_grad=True)
    classes, lengths = torch.tensor([0, 1]), torch.tensor([3, 40])
    quantizer(coefficients, classes, lengths).sum().backward()
    sent = quantizer.planes_sent(classes, lengths) > 0
    assert coefficients.grad is not None
    assert torch.equal(coefficients.grad, sent.float())
    assert 0 < int(sent[0].sum()) < int(sent[1].sum())


@pytest.mark.parametrize(
    ("canvas", "count"),
    [(Size(64, 64), 3), (Size(96, 48), 1), (Size(16, 16), 5), (Size(256, 256), 2)],
    ids=str,
)
def test_exported_graphs_agree_with_torch_on_any_canvas_and_batch(
    model: AdaptiveTokenizer, artifact: ModelArtifact, canvas: Size, count: int
) -> None:
    """The graphs were traced with 4 pictures of 64 x 64; `check_parity` raises where runtimes disagree."""
    parity = export.check_parity(model, artifact.graphs, batch(count, canvas))
    assert parity.equal_cell_share >= 0.999
    assert parity.max_border_distance <= export.BOUNDARY_MARGIN
    assert parity.min_psnr_db >= export.MIN_PARITY_PSNR_DB


def test_the_manifest_tells_the_parity_that_was_measured(artifact: ModelArtifact) -> None:
    assert artifact.manifest["parity"].keys() == {f.name for f in dataclasses.fields(export.Parity)}
    assert artifact.manifest["parity"]["min_psnr_db"] >= export.MIN_PARITY_PSNR_DB


def test_the_exported_head_agrees_with_torch_on_any_number_of_blocks() -> None:
    head = DistortionHead(HeadSizes(5, 7, 3), num_members=2).eval()
    for member in head.members:
        torch.nn.init.normal_(member.gain.weight)
        torch.nn.init.normal_(member.log_spread.weight)
    session = OnnxSession(export.export_head(head))
    for num_blocks in (1, 9):
        linear, features = torch.rand(3, 5).cumsum(1) * 5 + 15, torch.randn(3, 7)
        blocks = torch.randn(3, num_blocks, 3)
        with torch.no_grad():
            wanted = head(linear, features, blocks)
        got = session.run(linear_psnr_db=linear.numpy(), features=features.numpy(), blocks=blocks.numpy())
        for name, values in zip(("psnr_db", "spread_db"), wanted, strict=True):
            np.testing.assert_allclose(got[name], values.numpy(), atol=1e-4)


def tampered(graph: bytes) -> bytes:
    """The same graph with all weights 5 % larger."""
    model = onnx.load_from_string(graph)
    changed = 0
    for weights in model.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT:
            value = onnx.numpy_helper.to_array(weights) * np.float32(1.05)
            weights.CopyFrom(onnx.numpy_helper.from_array(value, weights.name))
            changed += 1
    assert changed
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_graphs_that_disagree_with_torch_are_refused(
    model: AdaptiveTokenizer, artifact: ModelArtifact, name: str
) -> None:
    graphs = {**artifact.graphs, name: tampered(artifact.graphs[name])}
    assert set(graphs) == set(GRAPHS)
    with pytest.raises(export.ParityError, match="disagrees with torch"):
        export.check_parity(model, graphs, batch(2, Size(64, 64)))


def test_the_digest_names_config_tables_and_weights(model: AdaptiveTokenizer) -> None:
    config = TokenizerConfig("a", "1", "spectral", (4, 8), {})
    contexts = starting_tables()
    digest = export.weights_digest(config, contexts, model)
    assert digest == export.weights_digest(config, contexts, model)
    others = {
        export.weights_digest(dataclasses.replace(config, version="2"), contexts, model),
        export.weights_digest(dataclasses.replace(config, precision="int8"), contexts, model),
        export.weights_digest(config, dataclasses.replace(contexts, shifts=contexts.shifts + 1), model),
        export.weights_digest(config, contexts, AdaptiveTokenizer(model.config, model.tables)),
        export.weights_digest(config, contexts, AdaptiveTokenizer(model.config, other_tables(model.tables))),
    }
    assert len(others | {digest}) == 6


def test_the_fingerprint_names_what_tokens_mean_and_not_the_decoder(model: AdaptiveTokenizer) -> None:
    config, contexts = TokenizerConfig("a", "1", "spectral", (4, 8), {}), starting_tables()
    encoder = export.weight_bytes(model.analysis)
    fingerprint = export.stream_fingerprint(config, contexts, model.tables, encoder)
    retrained = copy.deepcopy(model)
    torch.nn.init.ones_(retrained.synthesis.network.outward.weight)
    for same in (retrained, model):
        other, its_encoder = (
            dataclasses.replace(config, name="b", precision="int8"),
            export.weight_bytes(same.analysis),
        )
        assert export.stream_fingerprint(other, contexts, same.tables, its_encoder) == fingerprint
    changed = dataclasses.replace(contexts, shifts=contexts.shifts + 1)
    others = {
        export.stream_fingerprint(config, changed, model.tables, encoder),
        export.stream_fingerprint(config, contexts, other_tables(model.tables), encoder),
    }
    assert len(others | {fingerprint}) == 3


def test_margins_do_not_change_the_digest(model: AdaptiveTokenizer) -> None:
    """They change no token and no pixel: streams of both can be exchanged."""
    config = TokenizerConfig("a", "1", "spectral", (4, 8), {})
    calibrated = dataclasses.replace(config, margin_scores={"range": {"0.9": 2.0}})
    digests = {export.weights_digest(one, starting_tables(), model) for one in (config, calibrated)}
    assert len(digests) == 1


def other_tables(tables: SpectralTables) -> SpectralTables:
    return dataclasses.replace(tables, gain=tables.gain - 1)
