"""A register model from checkpoint to library: both runtimes agree, any byte is a cut, errors have names."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from generated_pictures import picture

from tokenizer import Coding, ImageTokenizer, Size, TokenBudget, TokenSequence
from tokenizer.artifact import REGISTER_FILES, ModelArtifact
from tokenizer.errors import ArtifactError, BitstreamError, CodingUnsupported, InvalidBudget
from tokenizer.model.register_tokenizer import RegisterConfig, RegisterTokenizer
from tokenizer.quality import psnr_db
from training.__main__ import export
from training.checkpoint import config_from_dict, load_checkpoint
from training.frozen_tokenizer import FrozenTokenizer
from training.register_export import border_distance, check_register_parity, export_register_graphs

Command = Callable[..., str]
TWO_BYTES = "model.levels=8,8,8,5,5,5"


@pytest.fixture(scope="session")
def register_checkpoint(
    picture_folder: Path, training_command: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Checkpoint of `register_debug` after its 20 steps, with registers of two bytes."""
    folder = tmp_path_factory.mktemp("registers")
    places = ("--data", picture_folder, "--folder", folder)
    training_command("train", "--recipe", "register_debug", *places, "--set", TWO_BYTES)
    return folder / "checkpoint.pt"


@pytest.fixture(scope="session")
def register_artifact(
    register_checkpoint: Path,
    picture_folder: Path,
    export_command: Command,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("models") / "registers"
    arguments = ("--checkpoint", register_checkpoint, "--data", picture_folder, "--out", folder)
    export_command("export", *arguments, "--name", "registers", "--version", "0.0.1")
    return folder


@pytest.fixture(scope="session")
def registers(register_artifact: Path) -> ImageTokenizer:
    return ImageTokenizer.from_pretrained(register_artifact)


def batch(count: int, canvas: Size) -> np.ndarray:
    return np.stack([picture(seed, canvas.width_px, canvas.height_px) for seed in range(60, 60 + count)])


def check_both_runtimes(model: RegisterTokenizer, graphs: dict[str, bytes]) -> None:
    """On more canvases than the graphs were traced with."""
    for canvas, count in ((Size(64, 64), 3), (Size(16, 16), 1), (Size(48, 96), 2)):
        parity = check_register_parity(model, graphs, batch(count, canvas))
        assert parity.equal_id_share > 0.9
        assert parity.min_psnr_db > 60


@pytest.mark.parametrize(
    ("levels", "patch_px"),
    [((4, 4, 4, 4), 8), pytest.param((7, 5, 5, 5, 5), 16, marks=pytest.mark.slow)],
)
def test_both_runtimes_give_the_same_ids_and_pictures(levels: tuple[int, ...], patch_px: int) -> None:
    torch.manual_seed(1)
    sizes = RegisterConfig(levels, 12, width=64, encoder_depth=1, decoder_depth=1, patch_px=patch_px)
    model = RegisterTokenizer(sizes).eval()
    torch.nn.init.normal_(model.synthesis.pixels.weight, std=0.05)
    check_both_runtimes(model, export_register_graphs(model, batch(2, Size(64, 64))))


def test_both_runtimes_give_the_same_for_a_trained_model_of_two_bytes(
    register_checkpoint: Path, register_artifact: Path
) -> None:
    state = load_checkpoint(register_checkpoint)
    sizes = config_from_dict(state["config"]).model
    assert isinstance(sizes, RegisterConfig) and sizes.bytes_per_register == 2
    model = RegisterTokenizer(sizes).eval()
    model.load_state_dict(state["average"])
    check_both_runtimes(model, ModelArtifact.load(register_artifact).graphs)


def test_a_register_on_a_border_has_no_distance_to_it() -> None:
    quantizer = RegisterTokenizer(RegisterConfig((5,), 1, width=64)).analysis.quantizer
    half = 4 * 1.001 / 2
    on_border, in_the_middle = np.arctanh(np.asarray((0.5, 1.0)) / half)
    latent = torch.tensor([[[on_border], [in_the_middle]]], dtype=torch.float32)
    assert border_distance(quantizer, latent)[0].tolist() == pytest.approx([0.0, 0.5], abs=1e-5)


def test_the_graphs_hold_plain_operators_only(register_artifact: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        graph = onnx.load(register_artifact / name).graph
        assert {node.domain for node in graph.node} <= {""}
    operators = {node.op_type for node in onnx.load(register_artifact / "encoder.onnx").graph.node}
    assert {"Round", "Tanh"} <= operators


def test_the_manifest_names_the_layout_and_what_was_measured(register_artifact: Path) -> None:
    assert {path.name for path in register_artifact.iterdir()} == {*REGISTER_FILES, "manifest.json"}
    manifest = json.loads((register_artifact / "manifest.json").read_text())
    config = json.loads((register_artifact / "config.json").read_text())
    assert config["layout"] == "register"
    assert manifest["recipe"]["name"] == "register_debug"
    assert manifest["rate_distortion"]["fixed"]["tokens"] == config["candidate_lengths"]
    assert config["candidate_lengths"][-1] == 32
    assert manifest["parity"]["min_psnr_db"] > 50


def test_pictures_of_any_size_come_back_at_their_size(registers: ImageTokenizer) -> None:
    pictures = [picture(1, 64, 64), picture(2, 100, 40), picture(3, 7, 9)]
    sequences = registers.encode(pictures)
    assert [s.length for s in sequences] == [32, 32, 32]
    assert all(s.coding is Coding.FIXED for s in sequences)
    # Registers know the area that they were trained at.
    assert sequences[1].canvas.area_px <= 1.2 * 64 * 64
    assert [p.shape for p in registers.decode(sequences)] == [p.shape for p in pictures]


def test_every_byte_is_a_cut_and_half_a_register_changes_nothing(registers: ImageTokenizer) -> None:
    (whole,) = registers.encode([picture(4, 64, 64)])
    decoded = registers.decode([whole.prefix(length) for length in range(whole.length + 1)])
    for even in range(0, whole.length, 2):
        assert np.array_equal(decoded[even], decoded[even + 1])
    assert not np.array_equal(decoded[0], decoded[-1])


def test_tokens_do_not_depend_on_the_batch(registers: ImageTokenizer) -> None:
    pictures = [picture(seed, 64, 64) for seed in range(3)]
    alone = [registers.encode([one])[0] for one in pictures]
    assert [s.tokens for s in registers.encode(pictures)] == [s.tokens for s in alone]


def test_files_carry_the_fingerprint_and_any_prefix_of_them_decodes(registers: ImageTokenizer) -> None:
    (whole,) = registers.encode([picture(5, 90, 70)])
    data = whole.to_bytes()
    again = TokenSequence.from_bytes(data)
    assert again == whole
    assert again.fingerprint == registers.fingerprint
    shorter = TokenSequence.from_bytes(data[:-5])
    (from_file,), (cut,) = registers.decode([shorter]), registers.decode([whole.prefix(whole.length - 5)])
    assert np.array_equal(from_file, cut)


def test_budgets_are_kept(registers: ImageTokenizer) -> None:
    source = picture(6, 64, 64)
    (by_tokens,) = registers.encode([source], TokenBudget(max_tokens=9))
    (by_bytes,) = registers.encode([source], TokenBudget(max_bytes=30))
    assert by_tokens.length == 9
    assert len(by_bytes.to_bytes()) == 30
    with pytest.raises(InvalidBudget):
        registers.encode([source], TokenBudget(max_bytes=5))


def test_quality_budgets_follow_the_predicted_curve(registers: ImageTokenizer) -> None:
    source = picture(7, 64, 64)
    (whole,) = registers.encode([source])
    curve = whole.curve
    assert curve is not None
    assert list(curve.psnr_db) == sorted(curve.psnr_db)
    assert curve.lengths == registers.artifact.config.candidate_lengths
    lowest, hopeless = curve.lower_bound_db(curve.lengths[0], 0.9) - 1, 90.0
    (short,) = registers.encode([source], TokenBudget(min_psnr_db=lowest))
    (all_of_it,) = registers.encode([source], TokenBudget(min_psnr_db=hopeless))
    assert (short.length, all_of_it.length) == (curve.lengths[0], whole.length)
    (decoded,) = registers.decode([whole])
    reached = psnr_db(source, decoded)
    (exact,) = registers.encode([source], TokenBudget(min_psnr_db=reached - 0.01, mode="exact"))
    (seen,) = registers.decode([exact])
    assert psnr_db(source, seen) >= reached - 0.01


def test_the_range_coding_is_refused_with_what_is_allowed(registers: ImageTokenizer) -> None:
    source = picture(8, 64, 64)
    with pytest.raises(CodingUnsupported, match="model registers has no coding 'range'; allowed: fixed"):
        registers.encode([source], coding=Coding.RANGE)
    as_range = TokenSequence(b"123", Size(64, 64), registers.fingerprint, coding=Coding.RANGE)
    with pytest.raises(CodingUnsupported, match="allowed: fixed"):
        registers.decode([as_range])


def test_more_tokens_than_registers_are_refused(registers: ImageTokenizer) -> None:
    with pytest.raises(BitstreamError, match="32 at most"):
        registers.decode([TokenSequence(bytes(33), Size(64, 64), registers.fingerprint, coding=Coding.FIXED)])


def test_what_needs_spectral_tokens_says_so(
    registers: ImageTokenizer, register_artifact: Path, register_checkpoint: Path, picture_folder: Path
) -> None:
    artifact = ModelArtifact.load(register_artifact)
    for attribute in ("tables", "contexts"):
        with pytest.raises(ArtifactError, match="has the layout register, this needs 'spectral'"):
            getattr(artifact, attribute)
    with pytest.raises(ArtifactError, match="no spectral tokens"):
        _ = registers.codec
    with pytest.raises(ValueError, match="a refiner needs the spectral one"):
        FrozenTokenizer(register_checkpoint, torch.device("cpu"))
    with pytest.raises(typer.BadParameter, match="training did not start from a codec"):
        export(register_checkpoint, [str(picture_folder)], register_artifact, linear=True)


def test_an_altered_table_is_refused(register_artifact: Path, tmp_path: Path) -> None:
    for file in register_artifact.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "registers.npz").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match=r"registers\.npz is not the file"):
        ModelArtifact.load(tmp_path)


def test_it_runs_without_torch(register_artifact: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from tokenizer import ImageTokenizer\n"
        f"model = ImageTokenizer.from_pretrained({str(register_artifact)!r})\n"
        "(tokens,) = model.encode([np.full((40, 60, 3), 90, np.uint8)])\n"
        "assert model.decode([tokens])[0].shape == (40, 60, 3)\n"
        "assert not {'torch', 'vector_quantize_pytorch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
