"""The model in the package, on the three generated scenes: what a user gets without training anything."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenizer import ImageTokenizer, TokenBudget, TokenSequence
from tokenizer.artifact import DEFAULT_MODEL, resolve, shipped
from tokenizer.quality import psnr_db

LENGTHS = (24, 64, 128, 512)
MAX_ARTIFACT_BYTES = 32 * 2**20
Scenes = dict[str, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def tokenizer() -> ImageTokenizer:
    return ImageTokenizer.from_pretrained()


@pytest.fixture(scope="module")
def encoded(tokenizer: ImageTokenizer, generated_scenes: Scenes) -> dict[str, TokenSequence]:
    names, pictures = zip(*generated_scenes.items(), strict=True)
    return dict(zip(names, tokenizer.encode(pictures), strict=True))


@pytest.fixture(scope="module")
def decoded(
    tokenizer: ImageTokenizer, encoded: dict[str, TokenSequence]
) -> dict[tuple[str, int], NDArray[np.uint8]]:
    keys = [(name, length) for name in encoded for length in LENGTHS]
    pictures = tokenizer.decode([encoded[name].prefix(length) for name, length in keys])
    return dict(zip(keys, pictures, strict=True))


def test_the_default_model_ships() -> None:
    assert DEFAULT_MODEL in shipped()


def test_all_that_ships_is_small() -> None:
    files = [path for name in shipped() for path in resolve(name).iterdir()]
    assert sum(path.stat().st_size for path in files) < MAX_ARTIFACT_BYTES


def test_no_graph_tells_of_the_machine_it_was_made_on() -> None:
    for name in shipped():
        for path in resolve(name).glob("*.onnx"):
            assert b'File "' not in path.read_bytes()


def test_both_precisions_read_each_others_streams(
    encoded: dict[str, TokenSequence], decoded: dict, generated_scenes: Scenes
) -> None:
    full = ImageTokenizer.from_pretrained("tessera-small")
    for name, pixels in generated_scenes.items():
        assert full.encode([pixels])[0].tokens == encoded[name].tokens
        (picture,) = full.decode([encoded[name].prefix(128)])
        assert psnr_db(picture, decoded[name, 128]) > 38


def test_every_scene_gets_better_with_more_bytes(decoded: dict, generated_scenes: Scenes) -> None:
    for name, pixels in generated_scenes.items():
        quality = [psnr_db(pixels, decoded[name, length]) for length in LENGTHS]
        assert quality == sorted(quality)
        assert quality[-1] > quality[0] + 2
        # A flat picture of the mean colour has 10..15 dB; a preview must say more than that.
        assert quality[0] > 16


def test_predicted_quality_is_near_the_real_one(
    encoded: dict[str, TokenSequence], decoded: dict, generated_scenes: Scenes
) -> None:
    for (name, length), pixels in decoded.items():
        predicted_db = encoded[name].prefix(length).predicted_psnr_db
        assert predicted_db == pytest.approx(psnr_db(generated_scenes[name], pixels), abs=1.5)


def test_a_quality_target_is_met_about_right(tokenizer: ImageTokenizer, generated_scenes: Scenes) -> None:
    for pixels in generated_scenes.values():
        (sequence,) = tokenizer.encode([pixels], TokenBudget(min_psnr_db=21.0))
        (image,) = tokenizer.decode([sequence])
        assert psnr_db(pixels, image) > 21.0 - 1.5


def test_decoding_is_deterministic(tokenizer: ImageTokenizer, encoded: dict[str, TokenSequence]) -> None:
    sequence = encoded["landscape"].prefix(128)
    fresh = ImageTokenizer.from_pretrained()
    first, second = (t.decode([sequence])[0] for t in (tokenizer, fresh))
    assert np.array_equal(first, second)


def test_a_batch_equals_singles(
    tokenizer: ImageTokenizer,
    encoded: dict[str, TokenSequence],
    decoded: dict,
    generated_scenes: Scenes,
) -> None:
    for name, pixels in generated_scenes.items():
        assert tokenizer.encode([pixels])[0] == encoded[name]
        (alone,) = tokenizer.decode([encoded[name].prefix(64)])
        assert np.array_equal(alone, decoded[name, 64])
