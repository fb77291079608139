"""Checkpoint -> artifact folder. Refuses to write where ONNX Runtime disagrees with torch."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import platform
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from tokenizer.artifact import FILES, sha256, tables_to_bytes
from tokenizer.canvas import Size
from tokenizer.config import TokenizerConfig
from tokenizer.contexts import ContextTables
from tokenizer.model import AdaptiveTokenizer, DistortionHead
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import from_model_output
from tokenizer.quality import psnr_db
from tokenizer.spectral import SpectralLayout, SpectralTables

OPSET = 20
# A cell's border may be crossed only by coefficients this near to it (in sigmas): float noise between
# runtimes was at most 3e-5 of a sigma, measured on both; ids of all others must be equal.
BOUNDARY_MARGIN = 1e-3
MIN_PARITY_PSNR_DB = 50.0


class ParityError(Exception):
    """torch and ONNX Runtime disagree; nothing was written."""


@dataclass(frozen=True)
class Parity:
    """How well the two runtimes agree on fixed pictures."""

    equal_cell_share: float
    max_border_distance: float
    """Largest distance to a border, in sigmas, of a coefficient whose cell differs."""
    min_psnr_db: float


def export_artifact(
    model: AdaptiveTokenizer,
    contexts: ContextTables,
    head: DistortionHead,
    config: TokenizerConfig,
    graphs: dict[str, bytes],
    parity: Parity,
    folder: Path,
    facts: dict[str, Any],
) -> str:
    """Write the folder; return its digest."""
    contents = {
        "config.json": config.to_json().encode(),
        "tables.npz": tables_to_bytes(model.tables),
        "contexts.npz": tables_to_bytes(contexts),
        **graphs,
        "halting.onnx": export_head(head),
    }
    digest = weights_digest(config, contexts, model)
    names = {
        "digest": digest,
        "fingerprint": stream_fingerprint(config, contexts, model.tables, weight_bytes(model.analysis)),
    }
    versions = {"torch": torch.__version__, "opset": str(OPSET), **runtime_versions()}
    write_artifact(folder, contents, {**names, "versions": versions, "parity": parity.__dict__, **facts})
    return digest


def write_artifact(
    folder: Path, contents: dict[str, bytes], manifest: dict[str, Any], files: tuple[str, ...] = FILES
) -> None:
    """All files of a layout, and the manifest with their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).write_bytes(contents[name])
    manifest = {**manifest, "files": {name: sha256(contents[name]) for name in files}}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def stream_fingerprint(
    config: TokenizerConfig, contexts: ContextTables, tables: SpectralTables, encoder: list[bytes]
) -> str:
    """Eight hex digits over all that gives tokens their meaning; a decoder's weights do not.

    So a model that was only trained longer, or quantized, reads the streams of the one before. `encoder`
    are the weights of the encoder network, if there is one.
    """
    rules = (config.layout, config.format_version, config.preprocess_version)
    parts = [repr(rules).encode(), *_table_bytes(tables, contexts), *encoder]
    return sha256(b"".join(parts))[:8]


def _table_bytes(*all_tables: SpectralTables | ContextTables) -> list[bytes]:
    return [
        np.ascontiguousarray(getattr(tables, name)).tobytes()
        for tables in all_tables
        for name in tables.__slots__
    ]


def weight_bytes(module: nn.Module) -> list[bytes]:
    """Names and values of all weights."""
    return [
        part
        for name, value in sorted(module.state_dict().items())
        for part in (name.encode(), value.detach().cpu().contiguous().numpy().tobytes())
    ]


def weights_digest(config: TokenizerConfig, contexts: ContextTables, model: AdaptiveTokenizer) -> str:
    """SHA-256 of canonical config, tables and weights; other exports of one model share it.

    The halting head and its margins are left out: they change no token and no pixel, so models that
    differ in them alone read each other's streams.
    """
    rules = dataclasses.replace(config, margin_scores={}).to_json().encode()
    parts = [rules, *_table_bytes(model.tables, contexts), *weight_bytes(model)]
    return sha256(b"".join(parts))


def export_graphs(model: AdaptiveTokenizer, pictures: np.ndarray) -> dict[str, bytes]:
    """Encoder and decoder, with dynamic batch and canvas."""
    canvas = Size(pictures.shape[2], pictures.shape[1])
    image = _image(pictures)
    vertical, horizontal = model.basis(canvas, torch.device("cpu"))
    means, _, _ = model.analysis(image, vertical, horizontal)
    batch, bh, bw = Dim("batch", min=1), Dim("bh", min=1), Dim("bw", min=1)
    height, width = 16 * Dim("height16", min=1), 16 * Dim("width16", min=1)
    rows, columns = {0: bh, 1: height}, {0: bw, 1: width}
    one = torch.ones(len(pictures))
    return {
        "encoder.onnx": _export(
            model.analysis,
            {"image_B3HW": image, "vertical": vertical, "horizontal": horizontal},
            {"image_B3HW": {0: batch, 2: height, 3: width}, "vertical": rows, "horizontal": columns},
            ["image", "vertical", "horizontal"],
            ["coefficients", "reference", "energy"],
        ),
        "decoder.onnx": _export(
            model.synthesis,
            {
                "means": means.detach(),
                "length_B": 64 * one,
                "expected_mse_B": 500 * one,
                "vertical": vertical,
                "horizontal": horizontal,
            },
            {
                "means": {0: batch, 2: bh, 3: bw},
                "length_B": {0: batch},
                "expected_mse_B": {0: batch},
                "vertical": rows,
                "horizontal": columns,
            },
            ["means", "length", "expected_mse", "vertical", "horizontal"],
            ["image"],
        ),
    }


def export_head(head: DistortionHead) -> bytes:
    """The halting graph, with dynamic batch and number of blocks."""
    batch, blocks, sizes = Dim("batch", min=1), Dim("blocks", min=1), head.sizes
    return _export(
        head.cpu().eval(),
        {
            "linear_psnr_db_BL": torch.full((2, sizes.num_lengths), 20.0),
            "features_BS": torch.zeros(2, sizes.num_features),
            "blocks_BNK": torch.zeros(2, 8, sizes.num_block_features),
        },
        {
            "linear_psnr_db_BL": {0: batch},
            "features_BS": {0: batch},
            "blocks_BNK": {0: batch, 1: blocks},
        },
        ["linear_psnr_db", "features", "blocks"],
        ["psnr_db", "spread_db"],
    )


def _export(
    module: nn.Module,
    inputs: dict[str, Tensor],
    dynamic: dict[str, dict[int, Any]],
    input_names: list[str],
    output_names: list[str],
) -> bytes:
    # The exporter warns about packages that it does not need here, once per call.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            kwargs=inputs,
            dynamic_shapes=dynamic,
            input_names=input_names,
            output_names=output_names,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    buffer = io.BytesIO()
    program.save(buffer)
    return without_traces(buffer.getvalue())


def without_traces(graph: bytes) -> bytes:
    """The same graph without what the exporter notes of the machine: stack traces with paths, per node."""
    import onnx

    model = onnx.load_from_string(graph)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model.SerializeToString()


def check_parity(model: AdaptiveTokenizer, graphs: dict[str, bytes], pictures: np.ndarray) -> Parity:
    """Compare both runtimes on pictures at several lengths; raises ParityError."""
    canvas = Size(pictures.shape[2], pictures.shape[1])
    layout, image = SpectralLayout(model.tables), _image(pictures)
    vertical, horizontal = model.basis(canvas, torch.device("cpu"))
    basis = {"vertical": vertical.numpy(), "horizontal": horizontal.numpy()}
    with torch.no_grad():
        ours = model.analysis(image, vertical, horizontal)[0].numpy()
    theirs = OnnxSession(graphs["encoder.onnx"]).run(image=image.numpy(), **basis)["coefficients"]
    equal, distance = zip(
        *(_compare_cells(layout, a, b, canvas) for a, b in zip(ours, theirs, strict=True)), strict=True
    )
    decoder, psnr = OnnxSession(graphs["decoder.onnx"]), []
    for length in (0, 16, 128, layout.max_tokens(canvas)):
        tokens = [layout.encode(c, canvas)[:length] for c in theirs]
        means = np.stack([layout.decode(t, canvas) for t in tokens])
        expected = np.asarray([layout.expected_mse(t, canvas) for t in tokens], np.float32)
        lengths = np.full(len(tokens), length, np.float32)
        got = decoder.run(means=means, length=lengths, expected_mse=expected, **basis)["image"]
        with torch.no_grad():
            arguments = [torch.from_numpy(a) for a in (means, lengths, expected)]
            wanted = model.synthesis(*arguments, vertical, horizontal).numpy()
        pairs = zip(from_model_output(got), from_model_output(wanted), strict=True)
        psnr.append(min(min(psnr_db(a, b), 100.0) for a, b in pairs))
    parity = Parity(float(np.mean(equal)), float(max(distance)), float(min(psnr)))
    if parity.max_border_distance > BOUNDARY_MARGIN or parity.min_psnr_db < MIN_PARITY_PSNR_DB:
        raise ParityError(f"ONNX Runtime disagrees with torch: {parity}")
    return parity


def _compare_cells(layout: SpectralLayout, a: np.ndarray, b: np.ndarray, canvas: Size) -> tuple[float, float]:
    """(share of equal cells, largest distance to a border of those that differ)."""
    class_id = layout.choose_class(a, canvas)
    cells_a, cells_b = layout.cells(a, class_id, canvas), layout.cells(b, class_id, canvas)
    differ = np.flatnonzero(cells_a != cells_b)
    if len(differ) == 0:
        return 1.0, 0.0
    order = layout.order(class_id, canvas)
    at = order.coefficient[differ]
    standard = a.reshape(-1)[at] / order.sigma[at]
    borders = layout.tables.thresholds[np.minimum(cells_a[differ], cells_b[differ])]
    return float(np.mean(cells_a == cells_b)), float(np.abs(standard - borders).max())


def _image(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).float()


def runtime_versions() -> dict[str, str]:
    """What writes and runs the graphs."""
    import onnx
    import onnxruntime

    return {
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
    }
