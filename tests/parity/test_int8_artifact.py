"""The int8 sibling of the tiny artifact: same tokens, nearly the same pictures, its own identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from generated_pictures import picture

from tokenizer import ImageTokenizer, TokenSequence
from tokenizer.artifact import FILES, ModelArtifact
from tokenizer.onnx_session import OnnxSession
from tokenizer.quality import psnr_db
from training import quantize
from training.quantize import MIN_PARITY_PSNR_DB, Comparison, QuantizationError

LENGTHS = (0, 1, 24, 128)


@pytest.fixture(scope="module")
def int8(int8_artifact: Path) -> ImageTokenizer:
    return ImageTokenizer.from_pretrained(int8_artifact)


@pytest.fixture(scope="module")
def streams(tiny_tokenizer: ImageTokenizer) -> list[TokenSequence]:
    return tiny_tokenizer.encode([picture(seed, 96, 80) for seed in range(5)])


def test_both_precisions_give_the_same_tokens(int8: ImageTokenizer, streams: list[TokenSequence]) -> None:
    theirs = int8.encode([picture(seed, 96, 80) for seed in range(5)])
    assert [s.tokens for s in theirs] == [s.tokens for s in streams]
    assert [s.curve for s in theirs] == [s.curve for s in streams]


def test_both_precisions_decode_to_nearly_the_same_picture(
    int8: ImageTokenizer, tiny_tokenizer: ImageTokenizer, streams: list[TokenSequence]
) -> None:
    for length in LENGTHS:
        cut = [stream.prefix(length) for stream in streams]
        wanted = tiny_tokenizer.decode(cut)
        got = int8.decode(cut)
        for a, b in zip(wanted, got, strict=True):
            assert psnr_db(a, b) >= MIN_PARITY_PSNR_DB


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_int8_pictures_depend_on_neither_batch_nor_threads(
    int8: ImageTokenizer, streams: list[TokenSequence], threads: int
) -> None:
    """Bit for bit, before rounding to pixels: prefixes of other lengths and pictures stand beside each."""
    canvas = streams[0].canvas
    cut = [stream.prefix(length) for stream in streams for length in LENGTHS]
    inputs = int8.decoder_inputs(cut, canvas)
    basis = {name: inputs.pop(name) for name in ("vertical", "horizontal")}

    def run(session: OnnxSession, rows: slice) -> np.ndarray:
        return session.run(**{name: values[rows] for name, values in inputs.items()}, **basis)["image"]

    alone = [run(int8.decoder, slice(at, at + 1))[0] for at in range(len(cut))]
    session = OnnxSession(int8.artifact.graphs["decoder.onnx"], num_threads=threads)
    for size in (1, 2, 3, 7, len(cut)):
        for start in range(0, len(cut), size):
            batch = slice(start, start + size)
            assert np.array_equal(run(session, batch), alone[batch])


def test_the_int8_model_has_an_identity_of_its_own(
    int8: ImageTokenizer, tiny_tokenizer: ImageTokenizer, streams: list[TokenSequence]
) -> None:
    assert int8.artifact.config == replace(tiny_tokenizer.artifact.config, name="tiny-int8", precision="int8")
    assert int8.digest != tiny_tokenizer.digest
    assert int8.fingerprint == tiny_tokenizer.fingerprint, "tokens mean the same: streams can be exchanged"


def test_the_digest_follows_from_the_model_alone(int8: ImageTokenizer, tiny_artifact: Path) -> None:
    source, decoder = ModelArtifact.load(tiny_artifact), int8.artifact.graphs["decoder.onnx"]
    assert quantize.int8_sibling(source, decoder).digest == int8.digest
    others = {
        quantize.int8_sibling(source, decoder, "other").digest,
        quantize.int8_sibling(source, tampered(decoder)).digest,
        quantize.int8_sibling(
            replace(source, manifest={**source.manifest, "digest": "0" * 64}), decoder
        ).digest,
    }
    assert len(others | {int8.digest}) == 4


def test_the_int8_manifest_tells_source_parity_and_quality(
    int8_artifact: Path, int8: ImageTokenizer, tiny_tokenizer: ImageTokenizer
) -> None:
    assert {path.name for path in int8_artifact.iterdir()} == {*FILES, "manifest.json"}
    manifest = int8.artifact.manifest
    assert manifest["quantization"]["source"] == {"name": "tiny", "digest": tiny_tokenizer.digest}
    assert manifest["recipe"] == tiny_tokenizer.artifact.manifest["recipe"]
    assert manifest["parity"]["min_psnr_db"] >= MIN_PARITY_PSNR_DB
    quality = manifest["rate_distortion"]
    assert len(quality["tokens"]) == len(quality["mean_psnr_db"]) == len(quality["source_mean_psnr_db"])
    assert max(quality["loss_db"]) <= manifest["quantization"]["max_loss_db"]


def test_the_int8_model_is_smaller(int8: ImageTokenizer, tiny_tokenizer: ImageTokenizer) -> None:
    ours, theirs = (len(t.artifact.graphs["decoder.onnx"]) for t in (int8, tiny_tokenizer))
    assert ours < theirs


def test_nothing_is_written_where_pictures_lose_too_much(
    tiny_artifact: Path, picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "int8_decoder", lambda graph, *_: tampered(graph))
    with pytest.raises(QuantizationError, match="int8 loses"):
        quantize.quantize_artifact(tiny_artifact, (str(picture_folder),), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_one_spoilt_picture_is_refused_whatever_the_mean() -> None:
    same, parity = np.full((2, 3), 20.0), np.full((2, 3), 50.0)
    quantize.check(Comparison((1, 2, 3), same, same, parity), max_loss_db=0.0)
    parity[1, 2] = MIN_PARITY_PSNR_DB - 1
    with pytest.raises(QuantizationError, match="between int8 and fp32"):
        quantize.check(Comparison((1, 2, 3), same, same, parity), max_loss_db=0.0)


def test_an_int8_model_is_not_quantized_again(
    int8_artifact: Path, picture_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(QuantizationError, match="give an fp32 model"):
        quantize.quantize_artifact(int8_artifact, (str(picture_folder),), tmp_path / "again")


def tampered(graph: bytes) -> bytes:
    """The same graph with another mean colour."""
    model = onnx.load_from_string(graph)
    (mean,) = (tensor for tensor in model.graph.initializer if tensor.name == "mean")
    value = onnx.numpy_helper.to_array(mean) + np.float32(20)
    mean.CopyFrom(onnx.numpy_helper.from_array(value, mean.name))
    return bytes(model.SerializeToString())
