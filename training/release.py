"""From a checkpoint to the folder that ships: weights, head, margins, parity, model facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizer.config import TokenizerConfig
from tokenizer.model import AdaptiveTokenizer, RegisterConfig
from tokenizer.model.layers import parameter_count
from tokenizer.onnx_session import OnnxSession
from tokenizer.stream_codec import StreamCodec
from training.checkpoint import (
    config_from_dict,
    config_to_dict,
    contexts_from_dict,
    load_checkpoint,
    tables_from_dict,
)
from training.config import DataConfig
from training.curves import Codec, rate_distortion
from training.data import load_pictures
from training.export import check_parity, export_artifact, export_graphs
from training.halting import CANDIDATE_LENGTHS, fit_halting
from training.int8_decoder import int8_decoder

PARITY_PICTURES = 4
RANGE_PICTURES = 32


class NoLinearCodec(ValueError):
    """A run that has no linear codec to export."""


def release(
    checkpoint: Path,
    sources: tuple[str, ...],
    out: Path,
    name: str,
    version: str,
    linear: bool = False,
    head_pictures: int = 1500,
) -> str:
    """Everything between a checkpoint and its artifact; returns the digest.

    The head is fitted on the validation split and on some training pictures, of which there are more.
    The margins, which make the promise, are taken on the calibration split, which nothing has seen.
    """
    state = load_checkpoint(checkpoint)
    config = config_from_dict(state["config"])
    if isinstance(config.model, RegisterConfig):
        if linear:
            raise NoLinearCodec(f"{checkpoint} has the register layout: training did not start from a codec")
        from training.register_release import release_registers

        return release_registers(state, config, sources, out, name, version, head_pictures)
    model = AdaptiveTokenizer(config.model, tables_from_dict(state["tables"])).eval()
    if not linear:  # the zero-initialised networks are the linear codec
        model.load_state_dict(state["average"])
    contexts = contexts_from_dict(state["contexts"])
    data = replace(config.data, sources=sources, kinds=(), limit=None)
    validation, calibration = load_pictures(data, "validation"), load_pictures(data, "calibration")
    canvas = config.canvases[0]
    seen = load_pictures(replace(data, limit=head_pictures), "train")
    parity_pictures = next(validation.centre_batches(PARITY_PICTURES, canvas))
    graphs = export_graphs(model, parity_pictures)
    parity = check_parity(model, graphs, parity_pictures)
    sessions = (OnnxSession(graphs["encoder.onnx"]), OnnxSession(graphs["decoder.onnx"]))
    codec = Codec(StreamCodec(model.tables, contexts), *sessions)
    # Curves are measured with the int8 decoder, which CPUs run: 0.005 dB apart, a third of the time.
    fast = int8_decoder(graphs["decoder.onnx"], codec, seen.first(RANGE_PICTURES), canvas)
    measured = Codec(codec.layout, codec.encoder, OnnxSession(fast))
    halting = fit_halting(measured, validation + seen, calibration, canvas)
    tokenizer_config = TokenizerConfig(
        name=name,
        version=version,
        layout="spectral",
        candidate_lengths=CANDIDATE_LENGTHS,
        margin_scores=halting.margin_scores,
    )
    facts = {
        "recipe": {**config_to_dict(config), "data": data_facts(config.data)},
        "steps": 0 if linear else state["step"],
        "parameters": {
            "decoder": parameter_count(model.synthesis),
            "encoder": parameter_count(model.analysis),
            "halting": parameter_count(halting.head),
        },
        "rate_distortion": {str(c): rate_distortion(CANDIDATE_LENGTHS, u) for c, u in halting.unseen.items()},
        "halting": halting.facts,
    }
    return export_artifact(model, contexts, halting.head, tokenizer_config, graphs, parity, out, facts)


def data_facts(data: DataConfig) -> dict[str, Any]:
    """What may leave the machine of a run's data: names, no paths."""
    return {
        "sources": [Path(source).name for source in data.sources],
        "held_out_share": data.held_out_share,
        "kinds": list(data.kinds),
    }
