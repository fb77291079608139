"""The refiner of an int8 artifact: smaller, nearly the same walks, and refused without pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from generated_pictures import picture
from onnx import TensorProto, numpy_helper

from tokenizer import ImageTokenizer
from tokenizer.artifact import REFINER, ModelArtifact
from tokenizer.onnx_session import OnnxSession
from tokenizer.quality import psnr_db
from training import refiner_export
from training.export import ParityError
from training.int8_refiner import KEPT_FLOAT, MIN_HALVED, store_halves
from training.refiner_export import MIN_INT8_PARITY_PSNR_DB


@pytest.fixture(scope="module")
def refined_int8(
    int8_artifact: Path,
    refiner_checkpoint: Path,
    picture_folder: Path,
    training_command: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = Path(shutil.copytree(int8_artifact, tmp_path_factory.mktemp("refined8") / "tiny-int8"))
    training_command("attach", "--refiner", refiner_checkpoint, "--model", folder, "--data", picture_folder)
    return folder


def test_walks_of_both_precisions_end_at_nearly_the_same_picture(
    refined_int8: Path, refiner_checkpoint: Path
) -> None:
    facts = json.loads((refined_int8 / "manifest.json").read_text())["refiner"]
    assert facts["int8_mean_psnr_db"] >= facts["int8_min_psnr_db"] >= MIN_INT8_PARITY_PSNR_DB
    small = ImageTokenizer.from_pretrained(refined_int8)
    assert small.has_realism
    (stream,) = small.encode([picture(3, 64, 64)])
    walked = small.decode([stream.prefix(60)], realism=1.0)[0]
    assert psnr_db(walked, small.decode([stream.prefix(60)])[0]) < 60


def test_its_body_is_int8_and_large_floats_are_stored_as_halves(refined_int8: Path) -> None:
    graph = onnx.load_from_string(ModelArtifact.load(refined_int8).graphs[REFINER])
    large = [tensor for tensor in graph.graph.initializer if np.prod(tensor.dims) >= MIN_HALVED]
    kinds = {tensor.data_type for tensor in large}
    assert kinds == {TensorProto.INT8, TensorProto.FLOAT16}
    assert {f"{name}.half" for name in KEPT_FLOAT} <= {tensor.name for tensor in large}


def test_halves_change_a_step_by_less_than_a_grey_level(refined_artifact: Path) -> None:
    graph = (refined_artifact / REFINER).read_bytes()
    rng = np.random.default_rng(0)
    fidelity = (128 + 40 * rng.standard_normal((1, 3, 32, 32))).astype(np.float32)
    number = {"time": 0.25, "length": 40, "expected_mse": 300}
    inputs = {name: np.asarray([value], np.float32) for name, value in number.items()}
    inputs |= {"state": fidelity + np.float32(5), "fidelity": fidelity}
    before, after = (OnnxSession(one).run(**inputs)["velocity"] for one in (graph, store_halves(graph)))
    assert len(store_halves(graph)) < 0.6 * len(graph)
    assert np.abs(before - after).max() < 0.1


def test_ranges_need_pictures_which_is_said_before_anything_is_exported(
    int8_artifact: Path, refiner_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.__main__ import attach

    monkeypatch.delattr(refiner_export, "export_refiner")
    folder = Path(shutil.copytree(int8_artifact, tmp_path / "copy"))
    with pytest.raises(typer.BadParameter, match="tiny-int8 is int8: give the data"):
        attach(refiner=refiner_checkpoint, model=folder)
    assert not (folder / REFINER).exists()


def test_nothing_is_attached_where_rounding_costs_too_much(
    int8_artifact: Path,
    refined_artifact: Path,
    refiner_checkpoint: Path,
    picture_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(graph: bytes, *_: object) -> bytes:
        model = onnx.load_from_string(graph)
        for tensor in model.graph.initializer:
            if tensor.name == KEPT_FLOAT[1]:
                value = numpy_helper.to_array(tensor) + np.float32(0.1)
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        return bytes(model.SerializeToString())

    whole = (refined_artifact / REFINER).read_bytes()  # exported once already
    monkeypatch.setattr(refiner_export, "export_refiner", lambda _: whole)
    monkeypatch.setattr(refiner_export, "int8_refiner", broken)
    folder = Path(shutil.copytree(int8_artifact, tmp_path / "copy"))
    with pytest.raises(ParityError, match="a walk in int8 agrees"):
        refiner_export.attach_refiner(refiner_checkpoint, folder, (str(picture_folder),))
    assert not (folder / REFINER).exists()
