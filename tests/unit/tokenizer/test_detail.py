"""What is shown of a walk: fine grey detail, in textured places, in proportion to the expected error."""

from __future__ import annotations

import numpy as np
import pytest

from tokenizer.detail import DetailFacts, box_mean, shown_detail, textured
from tokenizer.errors import ArtifactError
from tokenizer.realism import Realism, RealismDecoder, WalkFacts

FACTS = DetailFacts(side_px=9, contrast=0.05, power=1.0)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 20, shape).astype(np.float32)


@pytest.mark.parametrize(("height", "width", "side"), [(16, 16, 17), (40, 23, 9), (64, 16, 3)])
def test_box_means_are_those_of_mirrored_squares(height: int, width: int, side: int) -> None:
    values = noise(height, width)
    padded = np.pad(values, side // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    np.testing.assert_allclose(box_mean(values, side), windows.mean((2, 3)), atol=1e-4)


def test_colours_and_the_coarse_part_of_a_walk_are_not_shown() -> None:
    fidelity = noise(3, 64, 64)
    slope = np.linspace(-30, 30, 64, dtype=np.float32)
    coarse = np.broadcast_to(slope, (3, 64, 64)).copy()
    # Borders are mirrored there, so a slope has a kink.
    inside = shown_detail(coarse, fidelity, 20.0, FACTS)[:, 12:-12, 12:-12]
    np.testing.assert_allclose(inside, 0, atol=1e-3)
    colour = noise(3, 64, 64, seed=1)
    colour -= np.tensordot(np.asarray([0.299, 0.587, 0.114], np.float32), colour, axes=1)
    np.testing.assert_allclose(shown_detail(colour, fidelity, 20.0, FACTS), 0, atol=1e-3)


def test_fine_detail_of_textured_places_is_shown_whole() -> None:
    fidelity = 10 * noise(3, 64, 64)
    stripes = np.broadcast_to(np.float32([10, -10] * 32), (3, 64, 64)).copy()
    shown = shown_detail(stripes, fidelity, 22.0, FACTS)[0, 12:-12, 12:-12]
    np.testing.assert_allclose(shown, stripes[0, 12:-12, 12:-12], rtol=0.05)


def test_calm_places_stay_as_they_are() -> None:
    luma = np.full((64, 128), 90, np.float32)
    luma[:, 64:] += noise(64, 64)
    share = textured(luma, half_slope=1.0)
    assert share[:, :40].max() == 0
    assert share[:, 88:].min() > 0.9
    assert (share >= 0).all()
    assert (share <= 1).all()


def test_a_place_is_half_textured_at_the_given_slope() -> None:
    luma = np.broadcast_to(3 * np.arange(64, dtype=np.float32), (64, 64))
    np.testing.assert_allclose(textured(luma, half_slope=3.0)[20:40, 20:40], 0.5, rtol=1e-4)


def test_more_is_shown_where_more_is_lost() -> None:
    walk, fidelity = noise(3, 32, 32), 10 * noise(3, 32, 32, seed=1)
    little, much = (shown_detail(walk, fidelity, deviation, FACTS) for deviation in (11.0, 22.0))
    np.testing.assert_allclose(much / little, 2, rtol=0.01)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_is_shown_does_not_depend_on_batch_neighbours(count: int) -> None:
    class Step:
        def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
            return {"velocity": 0.5 * (inputs["state"] - inputs["fidelity"])}

    decoder = RealismDecoder(Step(), WalkFacts(0.2, gain=0.8, detail=FACTS))  # type: ignore[arg-type]
    fidelity = 128 + noise(5, 3, 32, 48)
    length, expected = np.linspace(8, 900, 5, dtype=np.float32), np.linspace(900, 30, 5, dtype=np.float32)
    together = decoder.refine(fidelity, length, expected, Realism(1.0, seed=4))
    first = decoder.refine(fidelity[:count], length[:count], expected[:count], Realism(1.0, seed=4))
    assert np.array_equal(first, together[:count])
    added = together - fidelity
    np.testing.assert_allclose(added, added[:, :1].repeat(3, axis=1), atol=1e-4)
    assert np.abs(added).max() > 0.1


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"side_px": 8, "contrast": 0.1, "power": 1.0},
            "side_px of the refiner's detail must be odd",
        ),
        ({"side_px": 9.0, "contrast": 0.1, "power": 1.0}, "side_px"),
        ({"side_px": 9, "contrast": 0.0, "power": 1.0}, "contrast of .* above 0 and at most 1, got 0.0"),
        ({"side_px": 9, "contrast": 0.1, "power": float("nan")}, "power of .* at most 2, got nan"),
        ({"side_px": 9, "contrast": 0.1}, "detail of the refiner cannot be"),
        ({"side_px": 9, "contrast": 0.1, "power": 1.0, "chroma": 1.0}, "detail of the refiner cannot be"),
        ("fine", "detail of the refiner cannot be 'fine'"),
    ],
)
def test_nonsense_in_a_manifest_is_refused(facts: object, words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        DetailFacts.from_manifest(facts)


def test_refiners_without_the_fact_show_whole_walks() -> None:
    assert DetailFacts.from_manifest(None) is None
    assert WalkFacts(0.2).detail is None
