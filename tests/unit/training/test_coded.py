"""Training on the range coding: what is kept of a coded picture decodes as the stream does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_pictures import picture
from numpy_codec import analyse, formula_tables

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.contexts import EXACT_BELOW, FEATURE_MIN, HIDDEN_MAX, NUM_TAPS, TAP_LIMIT, ContextModel
from tokenizer.model import ModelConfig
from tokenizer.range_coder import ONE
from tokenizer.range_form import RangeLayout
from tokenizer.signs import negative_odds
from tokenizer.spectral import SpectralLayout
from training.coded import SHARE, CodedSet, code_picture, code_pictures
from training.coded_batches import draw_coding
from training.config import ContextConfig, TrainConfig
from training.context_model import fit_contexts, starting_tables
from training.data import PictureSet
from training.recipes import debug_tiny
from training.sign_model import SignSample, fit_signs
from training.trainer import Trainer

CANVAS = Size(64, 64)
LENGTHS = (1, 2, 8, 30, 100, 400)


@pytest.fixture(scope="module")
def layout() -> RangeLayout:
    return RangeLayout(SpectralLayout(formula_tables()), starting_tables())


@pytest.fixture(scope="module")
def coefficients(layout: RangeLayout) -> list[np.ndarray]:
    return [analyse(picture(seed, 64, 64), layout.spectral.tables)[0] for seed in range(6)]


@pytest.fixture(scope="module")
def coded(layout: RangeLayout, coefficients: list[np.ndarray]) -> CodedSet:
    return CodedSet([code_picture(layout, one, CANVAS) for one in coefficients], CANVAS)


def test_a_kept_prefix_is_nearly_what_the_stream_decodes_to(
    layout: RangeLayout, coefficients: list[np.ndarray], coded: CodedSet
) -> None:
    """Nearly: which bits the byte at the cut settles is known on average only."""
    errors, ratios = [], []
    for number, one in enumerate(coefficients):
        class_id = layout.spectral.choose_class(one, CANVAS)
        tokens = layout.encode(one, one, class_id, CANVAS, 2048).tokens
        for length in LENGTHS:
            means, expected = layout.decode(tokens[:length], CANVAS)
            kept, kept_expected = coded.prefixes(np.asarray([number]), np.asarray([length]))
            errors.append(float(np.square(kept[0] - means).sum() / np.square(one).sum()))
            ratios.append(kept_expected[0] / expected)
    assert np.median(errors) < 1e-3
    assert max(errors) < 0.5
    # Between two passes it is interpolated; a short prefix of a poor model can lie far from either.
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert 0.5 < min(ratios) <= max(ratios) < 2


def test_several_processes_code_what_one_does(layout: RangeLayout) -> None:
    crops = [picture(seed, 64, 64) for seed in range(3)]
    tables = (layout.spectral.tables, starting_tables(), CANVAS)
    many = code_pictures(crops * (SHARE // 2), *tables, workers=2)
    for at, wanted in enumerate(code_pictures(crops, *tables).pictures):
        for found in many.pictures[at::3]:
            assert all(
                np.array_equal(getattr(found, field.name), getattr(wanted, field.name))
                for field in dataclasses.fields(wanted)
            )


def test_coded_pictures_survive_their_file(coded: CodedSet, tmp_path: Path) -> None:
    coded.save(tmp_path / "coded.npz")
    again = CodedSet.load(tmp_path / "coded.npz", CANVAS)
    for before, after in zip(coded.pictures, again.pictures, strict=True):
        for field in dataclasses.fields(before):
            assert np.array_equal(getattr(before, field.name), getattr(after, field.name))


def test_a_fit_makes_streams_shorter_and_stays_exact_in_float32(
    layout: RangeLayout, coefficients: list[np.ndarray]
) -> None:
    config = ContextConfig(pictures=6, rounds=1, questions=3000, steps=300)
    tables = fit_contexts(layout.spectral, coefficients, CANVAS, config)
    assert (np.abs(tables.first.astype(np.int64)).sum(0).max() * -FEATURE_MIN) < EXACT_BELOW
    assert np.abs(tables.second.astype(np.int64)).sum() * HIDDEN_MAX < EXACT_BELOW
    assert (np.abs(tables.sign_first.astype(np.int64)).sum(0).max() * TAP_LIMIT) < EXACT_BELOW
    assert np.abs(tables.sign_second.astype(np.int64)).sum() * HIDDEN_MAX < EXACT_BELOW
    fitted = RangeLayout(layout.spectral, tables)
    bits = {"before": 0.0, "after": 0.0}
    for one in coefficients:
        for name, form in (("before", layout), ("after", fitted)):
            trace = form.encode(one, one, 0, CANVAS, 400).trace
            # Bits until half of all error is removed.
            bits[name] += trace.bits[np.searchsorted(np.cumsum(trace.gain), 0.5 * np.square(one).sum())]
    assert bits["after"] < bits["before"]


def test_fitted_signs_take_less_than_a_bit(layout: RangeLayout) -> None:
    """Of coefficients whose neighbour above has the same sign nine times in ten."""
    rng = np.random.default_rng(0)
    taps, category = rng.integers(-24, 25, (4000, NUM_TAPS)).astype(np.int8), rng.integers(0, 24, 4000)
    is_negative = (taps[:, 0] < 0) ^ (rng.random(4000) < 0.1)
    sample = SignSample(taps, category.astype(np.int8), is_negative)
    model = ContextModel.of(fit_signs([sample], layout.tables, steps=300))
    odds = [negative_odds(model, row.astype(np.int32), int(c)) for row, c in zip(taps, category, strict=True)]
    share = np.where(is_negative, odds, ONE - np.asarray(odds)) / ONE
    assert -np.log2(share).mean() < 0.7


@pytest.fixture(scope="module")
def pictures() -> PictureSet:
    return PictureSet(tuple("abcdefgh"), tuple(picture(seed, 80, 64) for seed in range(8)))


def coded_config(share: float) -> TrainConfig:
    model = ModelConfig(decoder_widths=(16, 32), decoder_depths=(1, 1))
    return dataclasses.replace(debug_tiny(), model=model, coded_share=share, num_steps=4)


def test_a_step_on_the_range_coding_starts_at_the_linear_codec(pictures: PictureSet, tmp_path: Path) -> None:
    trainer = Trainer(coded_config(1.0), pictures, tmp_path)
    losses = trainer.train_step()
    assert losses["coded"] == pytest.approx(1, abs=1e-3)
    assert (tmp_path / "coded.npz").is_file()


def test_a_resumed_run_reads_what_was_coded(pictures: PictureSet, tmp_path: Path) -> None:
    first = Trainer(coded_config(1.0), pictures, tmp_path)
    first.save()
    again = Trainer(coded_config(1.0), pictures, tmp_path)
    length = torch.tensor([5, 50, 100, 300])
    batches = [one.coded.draw(3, length, slice(None), one.device) for one in (first, again) if one.coded]
    assert len(batches) == 2
    for name in ("image", "means", "expected_mse", "flip"):
        assert torch.equal(*(getattr(batch, name) for batch in batches))


def test_codings_are_drawn_in_their_share() -> None:
    config = coded_config(0.75)
    drawn = [draw_coding(config, step) for step in range(2000)]
    assert drawn == [draw_coding(config, step) for step in range(2000)]
    assert drawn.count(Coding.RANGE) / len(drawn) == pytest.approx(0.75, abs=0.03)


def test_an_encoder_network_cannot_be_trained_on_coded_pictures() -> None:
    with pytest.raises(ValueError, match="coded_share"):
        dataclasses.replace(debug_tiny(), coded_share=0.5)
