"""The runtime's loop against diffusers' scheduler, and the exported step against torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tokenizer.artifact import REFINER, ModelArtifact
from tokenizer.detail import DetailFacts
from tokenizer.model import Refiner, RefinerConfig
from tokenizer.onnx_session import OnnxSession
from tokenizer.realism import MAX_STEPS, Realism, RealismDecoder, WalkFacts, normal_noise, time_grid
from training import refiner_export
from training.export import MIN_PARITY_PSNR_DB, ParityError
from training.realism import load_refiner
from training.refiner_sampling import sample


@pytest.fixture(scope="module")
def trained(refiner_checkpoint: Path) -> Refiner:
    return load_refiner(refiner_checkpoint)[0]


@pytest.fixture(scope="module")
def wild() -> Refiner:
    """A refiner with random weights: its velocity bends far more than a trained one's."""
    torch.manual_seed(0)
    refiner = Refiner(RefinerConfig(widths=(16, 32), depths=(1, 1), noise_share=0.3)).eval()
    torch.nn.init.normal_(refiner.network.outward.weight, std=0.05)
    return refiner


class TorchStep(OnnxSession):
    """The step of a torch refiner behind the interface of a graph."""

    def __init__(self, refiner: Refiner) -> None:
        self.refiner = refiner

    @torch.no_grad()
    def run(self, **inputs: Any) -> dict[str, Any]:
        names = ("state", "fidelity", "time", "length", "expected_mse")
        return {"velocity": self.refiner(*(torch.from_numpy(inputs[name]) for name in names)).numpy()}


def example(count: int, height: int, width: int) -> list[torch.Tensor]:
    """Fidelity decodes, lengths and expected errors."""
    generator = torch.Generator().manual_seed(height + width)
    fidelity = 128 + 40 * torch.randn(count, 3, height, width, generator=generator)
    return [fidelity, torch.linspace(8, 200, count), torch.linspace(900, 30, count)]


@pytest.mark.parametrize("steps", range(1, MAX_STEPS + 1))
def test_the_runtime_walks_as_diffusers_scheduler_does(wild: Refiner, steps: int) -> None:
    inputs = example(2, 32, 48)
    noise = torch.from_numpy(normal_noise(5, (3, 32, 48)))
    wanted = sample(wild, *inputs, noise.expand_as(inputs[0]), steps).numpy()
    runtime = RealismDecoder(TorchStep(wild), WalkFacts(wild.config.noise_share))
    got = runtime.refine(*(value.numpy() for value in inputs), Realism(1.0, steps, seed=5))
    assert np.abs(wanted - inputs[0].numpy()).max() > 5
    np.testing.assert_allclose(got, wanted, atol=1e-2)


def test_the_scheduler_left_alone_would_waste_its_last_step() -> None:
    """Why the sigmas are given: by default the last but one is 1/1000 already."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    assert scheduler.sigmas[-2] < 0.002
    scheduler.set_timesteps(sigmas=(1 - time_grid(4)[:-1]).tolist())
    assert scheduler.sigmas.tolist() == pytest.approx((1 - time_grid(4)).tolist())


@pytest.mark.parametrize(("height", "width", "count"), [(64, 64, 3), (16, 16, 1), (48, 96, 5)])
def test_the_exported_step_agrees_with_torch_on_any_canvas_and_batch(
    trained: Refiner, refined_artifact: Path, height: int, width: int, count: int
) -> None:
    session = OnnxSession(ModelArtifact.load(refined_artifact).graphs[REFINER])
    fidelity, length, expected = (value.numpy() for value in example(count, height, width))
    state, time = fidelity + np.float32(9), np.linspace(0, 1, count, dtype=np.float32)
    inputs = {"state": state, "fidelity": fidelity, "time": time, "length": length, "expected_mse": expected}
    wanted = TorchStep(trained).run(**inputs)["velocity"]
    np.testing.assert_allclose(session.run(**inputs)["velocity"], wanted, atol=1e-2)


def test_the_manifest_tells_what_the_refiner_is(refined_artifact: Path, trained: Refiner) -> None:
    facts = json.loads((refined_artifact / "manifest.json").read_text())["refiner"]
    assert facts["noise_share"] == trained.config.noise_share
    assert facts["parity_psnr_db"] >= MIN_PARITY_PSNR_DB
    assert (facts["recipe"], facts["steps"]) == ("refiner_debug", 20)
    assert facts["tokenizer"] == {"name": "debug_tiny", "steps": 20}


@pytest.fixture
def folder(tiny_artifact: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, still without a refiner."""
    return Path(shutil.copytree(tiny_artifact, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_nothing_is_attached_where_runtimes_disagree(
    refiner_checkpoint: Path, refined_artifact: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx.load_from_string((refined_artifact / REFINER).read_bytes())
    for weights in graph.graph.initializer:
        if "outward" in weights.name:
            value = onnx.numpy_helper.to_array(weights) + np.float32(0.3)
            weights.CopyFrom(onnx.numpy_helper.from_array(value, weights.name))
    monkeypatch.setattr(refiner_export, "export_refiner", lambda _: graph.SerializeToString())
    before = contents(folder)
    with pytest.raises(ParityError, match="agrees with torch"):
        refiner_export.attach_refiner(refiner_checkpoint, folder)
    assert contents(folder) == before


def test_what_is_shown_of_a_walk_is_written_when_a_refiner_is_attached(
    refiner_checkpoint: Path, refined_artifact: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (refined_artifact / REFINER).read_bytes()  # exported once already
    monkeypatch.setattr(refiner_export, "export_refiner", lambda _: whole)
    detail = DetailFacts(side_px=9, contrast=0.025, power=0.5)
    refiner_export.attach_refiner(refiner_checkpoint, folder, gain=0.8, detail=detail)
    facts = json.loads((folder / "manifest.json").read_text())["refiner"]
    assert facts["gain"] == 0.8
    assert DetailFacts.from_manifest(facts["detail"]) == detail
    assert json.loads((refined_artifact / "manifest.json").read_text())["refiner"]["detail"] is None


def test_a_refiner_of_another_tokenizer_is_refused(refiner_checkpoint: Path) -> None:
    """The shipped model's decoder is not the one that this refiner has seen."""
    probe = load_refiner(refiner_checkpoint)[1]["probe"].numpy()
    with pytest.raises(ParityError, match="trained on another tokenizer than tessera-small"):
        refiner_export.check_same_tokenizer(ModelArtifact.load(), probe)
