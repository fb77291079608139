"""The halting head and its margins: monotone for any weights, better after the fit, and promises kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tokenizer.distortion import DistortionCurve
from tokenizer.model import DistortionHead
from tokenizer.model.halting import HeadSizes
from training.calibration import TARGET_STEP_DB, Predictions, margin_scores, missed_share, risk_bound
from training.curves import Curves
from training.halting import (
    CANDIDATE_LENGTHS,
    COVERAGES,
    FIT_EVERY,
    fit_head,
    mean_absolute_error_db,
    predictions,
)

NUM_LENGTHS, NUM_FEATURES, NUM_BLOCKS, NUM_BLOCK_FEATURES = len(CANDIDATE_LENGTHS), 4, 6, 3
SIZES = HeadSizes(NUM_LENGTHS, NUM_FEATURES, NUM_BLOCK_FEATURES)


def synthetic(count: int, seed: int, every: int = 1) -> Curves:
    """Decoders that gain what a feature and the blocks say, plus noise that no head can know.

    The noise is four times as large where the second feature is positive.
    """
    generator = torch.Generator().manual_seed(seed)
    linear = 16 + (torch.rand(count, NUM_LENGTHS, generator=generator) * 2 + 0.5).cumsum(1)
    features = torch.randn(count, NUM_FEATURES, generator=generator)
    blocks = torch.randn(count, NUM_BLOCKS, NUM_BLOCK_FEATURES, generator=generator)
    noise = torch.where(features[:, 1:2] > 0, 0.4, 0.1) * torch.randn(count, 1, generator=generator)
    local = blocks[:, :, 0].clamp_min(0).mean(1, keepdim=True)
    true = linear + 1 + 0.4 * features[:, :1].tanh() + local + noise
    skipped = (torch.arange(NUM_LENGTHS)[None] - torch.arange(count)[:, None]) % every != 0
    return Curves(linear, features, blocks, true.masked_fill(skipped, torch.nan))


@pytest.fixture(scope="module")
def fitted() -> DistortionHead:
    return fit_head(synthetic(600, seed=1, every=FIT_EVERY), steps=400, num_members=2)


@torch.no_grad()
def test_predicted_curves_never_fall_and_spreads_are_positive_whatever_the_weights() -> None:
    torch.manual_seed(0)
    head = DistortionHead(SIZES, num_members=2)
    for parameter in head.parameters():
        parameter.normal_(std=3.0)
    curves = synthetic(200, seed=0)
    psnr_db, spread_db = head(curves.linear_psnr_db * 20, curves.features * 20, curves.blocks * 20)
    assert (psnr_db.diff(dim=1) >= 0).all()
    assert (spread_db > 0).all() and (spread_db < 6).all()


@torch.no_grad()
def test_an_unfitted_head_is_the_linear_curve() -> None:
    curves = synthetic(20, seed=0)
    psnr_db, _ = DistortionHead(SIZES)(curves.linear_psnr_db, curves.features, curves.blocks)
    torch.testing.assert_close(psnr_db, curves.linear_psnr_db)


def test_the_fit_learns_what_the_decoder_gains(fitted: DistortionHead) -> None:
    """From a third of the lengths of each picture. The noise alone costs 0.2 dB, the linear curve 1.4."""
    unseen = synthetic(400, seed=2)
    assert mean_absolute_error_db(predictions(fitted, unseen)) < 0.3
    assert mean_absolute_error_db(predictions(DistortionHead(SIZES), unseen)) > 1.0


def test_the_fit_learns_which_pictures_it_cannot_know(fitted: DistortionHead) -> None:
    unseen = synthetic(400, seed=2)
    spread = predictions(fitted, unseen).spread_db.mean(1)
    noisy = (unseen.features[:, 1] > 0).numpy()
    assert spread[noisy].mean() > 1.25 * spread[~noisy].mean()


def test_the_fit_does_not_depend_on_the_global_seed(fitted: DistortionHead) -> None:
    torch.manual_seed(99)
    again = fit_head(synthetic(600, seed=1, every=FIT_EVERY), steps=400, num_members=2)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), fitted.parameters(), strict=True))


def test_targets_are_met_by_the_asked_share_of_unseen_pictures(fitted: DistortionHead) -> None:
    scores = margin_scores(predictions(fitted, synthetic(500, seed=3)), COVERAGES)
    unseen = predictions(fitted, synthetic(3000, seed=4))
    for coverage in COVERAGES:
        missed = missed_share(unseen, scores[str(coverage)]).mean()
        # Two standard errors of a share from 500 pictures.
        assert missed <= 1 - coverage + 2 * (coverage * (1 - coverage) / 500) ** 0.5


@pytest.mark.parametrize("seed", range(4))
def test_margins_hold_for_any_exchangeable_pictures(seed: int) -> None:
    """No head at all: predictions that are wrong by heavy-tailed noise of a size that varies."""
    rng = np.random.default_rng(seed)
    found, unseen = (exchangeable(rng, count) for count in (400, 4000))
    for coverage, scores in margin_scores(found, (0.8, 0.9, 0.95)).items():
        share = float(coverage)
        slack = 2 * (share * (1 - share) / 400) ** 0.5
        missed = missed_share(unseen, scores).mean()
        # Nor are they met by so many more that bytes are wasted: each group of 100 asks for confidence.
        assert 1 - share - 4 * slack <= missed <= 1 - share + slack


def exchangeable(rng: np.random.Generator, count: int) -> Predictions:
    true = rng.uniform(12, 24, (count, 1)) + np.cumsum(rng.uniform(0.2, 1.2, (count, NUM_LENGTHS)), axis=1)
    spread = rng.lognormal(-2, 0.7, (count, 1)) * np.ones(NUM_LENGTHS)
    error = spread * (rng.standard_t(3, (count, 1)) + 0.3 * rng.standard_normal((count, NUM_LENGTHS)))
    predicted = np.maximum.accumulate(true + error, axis=1)
    return Predictions(CANDIDATE_LENGTHS, predicted, spread, true, CANDIDATE_LENGTHS)


def test_the_promise_holds_for_hard_pictures_too() -> None:
    """Errors that the spread does not know of, on the quarter that is predicted worst."""
    rng = np.random.default_rng(3)
    found, unseen = (hard_ones_noisy(exchangeable(rng, count)) for count in (800, 4000))
    missed = missed_share(unseen, margin_scores(found, (0.9,))["0.9"])
    middle = unseen.psnr_db[:, NUM_LENGTHS // 2]
    assert missed[middle < np.quantile(middle, 0.25)].mean() <= 0.1 + 0.03


def hard_ones_noisy(found: Predictions) -> Predictions:
    middle = found.psnr_db[:, NUM_LENGTHS // 2]
    factor = np.where(middle < np.quantile(middle, 0.25), 0.3, 1.0)[:, None]
    return dataclasses.replace(found, spread_db=found.spread_db * factor)


def test_scores_grow_with_coverage(fitted: DistortionHead) -> None:
    scores = margin_scores(predictions(fitted, synthetic(300, seed=5)), COVERAGES)
    assert list(scores) == [str(coverage) for coverage in COVERAGES]
    assert list(scores.values()) == sorted(scores.values())


def test_too_few_pictures_for_a_promise_give_margins_that_would_have_missed_nothing() -> None:
    found = exchangeable(np.random.default_rng(7), 5)
    scores = margin_scores(found, (0.99,))["0.99"]
    # The score is rounded to four digits.
    assert missed_share(found, scores + 1e-4).max() == 0


def test_lengths_are_chosen_as_the_tokenizer_chooses_them() -> None:
    found = exchangeable(np.random.default_rng(11), 6)
    for row, share in enumerate(missed_share(found, 1.3)):
        curve = DistortionCurve(found.lengths, tuple(found.psnr_db[row] - 1.3 * found.spread_db[row]))
        true = DistortionCurve(found.lengths, tuple(found.true_psnr_db[row]))
        targets = np.arange(found.true_psnr_db[:, 0].min(), found.true_psnr_db[:, -1].max(), TARGET_STEP_DB)
        asked = [t for t in targets if true.psnr_db[0] <= t <= true.psnr_db[-1]]
        chosen = [curve.shortest_length(t, None) or curve.lengths[-1] for t in asked]
        missed = [true.psnr_db_at(length) < t for length, t in zip(chosen, asked, strict=True)]
        assert share == pytest.approx(np.mean(missed))


def test_pictures_that_are_sources_of_their_own_are_bound_as_independent_ones() -> None:
    missed = np.random.default_rng(0).uniform(0, 0.2, 400)
    independent = (missed.sum() + 1) / 401 + 1.645 * missed.std(ddof=1) / 20
    keys = tuple(map(str, range(400)))
    assert risk_bound(missed, keys) == risk_bound(missed) == pytest.approx(independent, rel=2e-3)


def named(sources: int, pictures: int) -> tuple[str, ...]:
    """Sources of as many pictures each."""
    return tuple(str(number) for number in range(sources) for _ in range(pictures))


def test_copies_of_a_picture_in_one_source_promise_no_more_than_the_picture() -> None:
    """Four times the pictures would halve what is added for confidence, if they told four times as much."""
    missed = np.random.default_rng(1).uniform(0, 0.2, 60)
    once, copied = risk_bound(missed), risk_bound(np.repeat(missed, 4), named(60, 4))
    # Both without what a new picture adds, which copies do dilute.
    added, added_copied = (
        bound - (missed.mean() * count + 1) / (count + 1) for bound, count in ((once, 60), (copied, 240))
    )
    assert added_copied == pytest.approx(added)
    assert risk_bound(np.repeat(missed, 4)) < copied


def test_the_bound_holds_for_new_sources() -> None:
    """Of 95 in 100 calibration sets, whose sources differ more than their pictures do."""
    rng = np.random.default_rng(2)
    sources = named(40, 3)
    of_sources = rng.beta(1, 9, (1000, 40)).repeat(3, axis=1)
    missed = rng.binomial(20, of_sources) / 20
    kept = [risk_bound(one, sources) >= 0.1 for one in missed]
    assert np.mean(kept) >= 0.94
    assert np.mean([risk_bound(one) >= 0.1 for one in missed]) < 0.94


def test_one_source_promises_nothing_about_others() -> None:
    assert risk_bound(np.full(300, 0.01), ("ours",) * 300) == 1.0


def test_every_picture_needs_a_source_or_none() -> None:
    found = exchangeable(np.random.default_rng(3), 4)
    with pytest.raises(ValueError, match="a source for each of 4 pictures, got 3"):
        dataclasses.replace(found, sources=("a", "b", "c"))


def test_margins_grow_where_pictures_of_a_source_are_missed_together() -> None:
    found = exchangeable(np.random.default_rng(4), 400)
    errors = (found.psnr_db - found.true_psnr_db).mean(1)
    alike = np.argsort(np.argsort(errors)) // 20
    apart = dataclasses.replace(found, sources=tuple(map(str, range(400))))
    together = dataclasses.replace(found, sources=tuple(map(str, alike)))
    assert margin_scores(apart, (0.9,)) == margin_scores(found, (0.9,))
    assert margin_scores(together, (0.9,))["0.9"] > 1.05 * margin_scores(found, (0.9,))["0.9"]
