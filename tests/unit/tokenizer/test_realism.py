"""Decoding with realism: the same noise for the same seed in any batch, and none at all for fidelity."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from generated_pictures import picture

from tokenizer import ImageTokenizer, Size, TokenSequence, realism
from tokenizer.artifact import REFINER, ModelArtifact
from tokenizer.errors import ArtifactError, InvalidRealism, RealismUnavailable
from tokenizer.onnx_session import OnnxSession
from tokenizer.realism import MAX_STEPS, Realism, RealismDecoder, WalkFacts, normal_noise, time_grid


@pytest.fixture(scope="module")
def streams(refined_tokenizer: ImageTokenizer) -> list[TokenSequence]:
    """Six streams of three canvases and several lengths."""
    sizes = ((64, 64), (96, 48), (33, 77), (64, 64), (96, 48), (64, 64))
    encoded = refined_tokenizer.encode([picture(seed, *size) for seed, size in enumerate(sizes, 70)])
    return [whole.prefix(length) for whole, length in zip(encoded, (24, 64, 200, 8, 64, 24), strict=True)]


@pytest.fixture
def folder(refined_artifact: Path, tmp_path: Path) -> Path:
    """A copy of the refined model that a test may damage."""
    return Path(shutil.copytree(refined_artifact, tmp_path / "copy"))


def change_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_realism_0_is_the_fidelity_decode_to_the_byte(
    tiny_tokenizer: ImageTokenizer, refined_tokenizer: ImageTokenizer, streams: list[TokenSequence]
) -> None:
    plain = tiny_tokenizer.decode(streams)
    for decoded in (
        refined_tokenizer.decode(streams),
        refined_tokenizer.decode(streams, realism=0.0, steps=8, seed=5),
        tiny_tokenizer.decode(streams, realism=0.0, steps=8, seed=5),
    ):
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(decoded, plain, strict=True))


def test_fidelity_draws_no_noise(
    refined_tokenizer: ImageTokenizer, streams: list[TokenSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realism, "normal_noise", lambda *_: pytest.fail("drew noise"))
    refined_tokenizer.decode(streams)


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(
    refined_tokenizer: ImageTokenizer, streams: list[TokenSequence]
) -> None:
    first, again, other = (
        refined_tokenizer.decode(streams[:1], realism=1.0, seed=seed)[0] for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_a_picture_does_not_depend_on_its_batch_neighbours(
    refined_tokenizer: ImageTokenizer, streams: list[TokenSequence], steps: int
) -> None:
    together = refined_tokenizer.decode(streams, realism=0.8, steps=steps, seed=9)
    for sequence, pixels in zip(streams, together, strict=True):
        (alone,) = refined_tokenizer.decode([sequence], realism=0.8, steps=steps, seed=9)
        assert np.array_equal(alone, pixels)


def test_a_picture_does_not_depend_on_other_threads(
    refined_tokenizer: ImageTokenizer, streams: list[TokenSequence]
) -> None:
    def decode(sequence: TokenSequence) -> np.ndarray:
        return refined_tokenizer.decode([sequence], realism=1.0, seed=2)[0]

    with ThreadPoolExecutor(4) as pool:
        for ours, theirs in zip(pool.map(decode, streams * 3), map(decode, streams * 3), strict=True):
            assert np.array_equal(ours, theirs)


def test_realism_moves_each_pixel_in_proportion(
    refined_tokenizer: ImageTokenizer, streams: list[TokenSequence]
) -> None:
    fidelity, half, whole = (
        refined_tokenizer.decode(streams[:1], realism=share)[0].astype(float) for share in (0.0, 0.5, 1.0)
    )
    assert np.abs(whole - fidelity).max() > 1
    # Three roundings to 8 bits lie between.
    assert np.abs(half - (fidelity + whole) / 2).max() <= 1.0


def test_realism_keeps_the_size_of_the_source(refined_tokenizer: ImageTokenizer) -> None:
    (whole,) = refined_tokenizer.encode([picture(5, 1500, 3)])
    (decoded,) = refined_tokenizer.decode([whole.prefix(40)], realism=1.0)
    assert decoded.shape == (3, 1500, 3)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"realism": -0.1}, "realism must be in 0..1, got -0.1"),
        ({"realism": 1.1}, "realism must be in 0..1"),
        ({"realism": float("nan")}, "realism must be in 0..1, got nan"),
        ({"steps": 0}, "steps must be 1..8, got 0"),
        ({"steps": 9}, "steps must be 1..8, got 9"),
        ({"realism": 1.0, "steps": 2.5}, "steps must be 1..8, got 2.5"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2**64}, "seed must be a whole number"),
        ({"seed": 0.5}, "seed must be a whole number"),
    ],
)
def test_nonsense_is_refused_with_the_value_and_the_range(
    refined_tokenizer: ImageTokenizer, wrong: dict[str, float], words: str
) -> None:
    with pytest.raises(InvalidRealism, match=words):
        refined_tokenizer.decode([], **wrong)


def test_a_model_without_a_refiner_says_so(tiny_tokenizer: ImageTokenizer) -> None:
    assert not tiny_tokenizer.has_realism
    with pytest.raises(RealismUnavailable, match="model tiny has no refiner") as caught:
        tiny_tokenizer.decode([], realism=0.5)
    assert caught.value.reason == "OPERATION_UNSUPPORTED"


def test_streams_from_before_the_refiner_stay_valid(
    tiny_tokenizer: ImageTokenizer, refined_tokenizer: ImageTokenizer
) -> None:
    assert refined_tokenizer.has_realism
    assert refined_tokenizer.fingerprint == tiny_tokenizer.fingerprint
    (whole,) = tiny_tokenizer.encode([picture(1, 64, 64)])
    assert refined_tokenizer.decode([whole], realism=0.5)[0].shape == (64, 64, 3)


def test_an_altered_refiner_is_refused(folder: Path) -> None:
    data = bytearray((folder / REFINER).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / REFINER).write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match=r"refiner\.onnx is not the file that the manifest names"):
        ModelArtifact.load(folder)


def test_a_refiner_that_the_manifest_does_not_name_is_no_part_of_the_model(folder: Path) -> None:
    change_manifest(folder, lambda manifest: manifest["files"].pop(REFINER))
    assert not ImageTokenizer.from_pretrained(folder).has_realism


@pytest.mark.parametrize(
    "facts",
    [
        None,
        {},
        {"noise_share": "much"},
        {"noise_share": 0.0},
        {"noise_share": 0.1, "gain": 2.5},
        {"noise_share": 0.1, "time_power": "square"},
    ],
)
def test_a_refiner_without_its_noise_is_refused(folder: Path, facts: object) -> None:
    change_manifest(folder, lambda manifest: manifest.update(refiner=facts))
    with pytest.raises(ArtifactError, match="with which noise"):
        ImageTokenizer.from_pretrained(folder)


def test_all_settings_without_strength_are_one() -> None:
    assert Realism(0.0, 8, 77) == Realism()
    assert Realism(0.5, 8, 77) != Realism(0.5, 8, 78)


@pytest.mark.parametrize("steps", range(1, MAX_STEPS + 1))
def test_times_rise_from_0_to_1_and_ever_faster(steps: int) -> None:
    times = time_grid(steps)
    assert (len(times), times[0], times[-1]) == (steps + 1, 0.0, 1.0)
    assert (np.diff(times) > 0).all()
    assert (np.diff(times, 2) > 0).all()


def test_the_gain_of_a_refiner_scales_what_its_walks_add(folder: Path) -> None:
    artifact = ModelArtifact.load(folder)
    fidelity = np.full((1, 3, 16, 16), 128, np.float32)
    inputs = (fidelity, np.asarray([9], np.float32), np.asarray([400], np.float32), Realism(1.0, 2, seed=1))
    step = OnnxSession(artifact.graphs[REFINER])
    whole, half = (RealismDecoder(step, WalkFacts(0.1, 2.0, gain)).refine(*inputs) for gain in (1.0, 0.5))
    np.testing.assert_allclose(half - fidelity, (whole - fidelity) / 2, atol=1e-4)
    linear = RealismDecoder(step, WalkFacts(0.1, time_power=1.0)).refine(*inputs)
    assert not np.array_equal(linear, whole)


def test_noise_is_standard_normal_and_white() -> None:
    noise = normal_noise(0, (3, 256, 256)).astype(float)
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean() == pytest.approx(3, abs=0.1)
    assert (noise[:, :, 1:] * noise[:, :, :-1]).mean() == pytest.approx(0, abs=0.01)
    assert (noise[0] * noise[1]).mean() == pytest.approx(0, abs=0.01)


def test_noise_of_a_seed_never_changes() -> None:
    """A golden: decoding the same stream with the same seed next year gives the same picture."""
    np.testing.assert_allclose(normal_noise(1, (2, 3)), GOLDEN_NOISE, rtol=1e-6)
    assert normal_noise(1, (5,)).shape == (5,)
    assert not np.array_equal(normal_noise(2**64 - 1, (2, 3)), normal_noise(0, (2, 3)))


GOLDEN_NOISE = [[1.5147189, 0.463957, 1.8249816], [0.2998762, -0.3358903, 0.6192847]]


def test_an_empty_stream_can_be_imagined(refined_tokenizer: ImageTokenizer) -> None:
    """Even no tokens at all are a prefix."""
    nothing = TokenSequence(b"", Size(64, 64), refined_tokenizer.fingerprint)
    assert refined_tokenizer.decode([nothing], realism=1.0)[0].shape == (64, 64, 3)


def test_the_manifest_says_which_part_of_a_walk_is_shown(folder: Path, streams: list[TokenSequence]) -> None:
    def decode() -> np.ndarray:
        return ImageTokenizer.from_pretrained(folder).decode(streams[:1], realism=1.0)[0].astype(int)

    fidelity = ImageTokenizer.from_pretrained(folder).decode(streams[:1])[0]
    whole = decode() - fidelity
    detail = {"side_px": 9, "contrast": 0.025, "power": 0.5}
    change_manifest(folder, lambda manifest: manifest["refiner"].update(detail=detail))
    shown = decode() - fidelity
    assert np.abs(whole - whole.mean(axis=2, keepdims=True)).max() > 2
    # Grey, but for the rounding of three colours and their clipping.
    inside = (fidelity.min(axis=2) > 20) & (fidelity.max(axis=2) < 235)
    assert np.ptp(shown[inside], axis=-1).max() <= 1
    change_manifest(folder, lambda manifest: manifest["refiner"].update(detail={"side_px": 9}))
    with pytest.raises(ArtifactError, match="detail of the refiner"):
        decode()
