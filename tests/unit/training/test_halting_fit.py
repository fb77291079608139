"""The halting head: monotone for any weights, better after the fit, and margins that keep their promise."""

from __future__ import annotations

import pytest
import torch

from tokenizer.distortion import margin_growth
from tokenizer.model import DistortionHead
from training.halting import CANDIDATE_LENGTHS, COVERAGES, Curves, conformal_margins, fit_head, head_error_db

NUM_LENGTHS, NUM_FEATURES = len(CANDIDATE_LENGTHS), 4


def synthetic(count: int, seed: int) -> Curves:
    """Decoders that gain what the first feature says, plus noise that no head can know."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(count, NUM_LENGTHS, generator=generator) * 2 + 0.5
    linear = 16 + steps.cumsum(1)
    features = torch.randn(count, NUM_FEATURES, generator=generator)
    noise = 0.2 * torch.randn(count, 1, generator=generator)
    return Curves(linear, features, linear + 1 + 0.4 * features[:, :1].tanh() + noise)


@torch.no_grad()
def test_predicted_curves_never_fall_whatever_the_weights() -> None:
    torch.manual_seed(0)
    head = DistortionHead(NUM_LENGTHS, NUM_FEATURES)
    for parameter in head.parameters():
        parameter.normal_(std=3.0)
    curves = head(torch.randn(200, NUM_LENGTHS) * 20, torch.randn(200, NUM_FEATURES) * 20)
    assert (curves.diff(dim=1) >= 0).all()


@torch.no_grad()
def test_an_unfitted_head_is_the_linear_curve() -> None:
    linear = synthetic(20, seed=0).linear_psnr_db
    torch.testing.assert_close(DistortionHead(NUM_LENGTHS, NUM_FEATURES)(linear, torch.randn(20, 4)), linear)


@pytest.fixture(scope="module")
def fitted() -> DistortionHead:
    return fit_head(synthetic(400, seed=1), steps=400)


def test_the_fit_learns_what_the_decoder_gains(fitted: DistortionHead) -> None:
    unseen = synthetic(400, seed=2)
    unfitted = DistortionHead(NUM_LENGTHS, NUM_FEATURES)
    # The noise alone costs 0.16 dB; the linear curve is a whole decibel off.
    assert head_error_db(fitted, unseen) < 0.3
    assert head_error_db(unfitted, unseen) > 0.8


def test_the_fit_does_not_depend_on_the_global_seed(fitted: DistortionHead) -> None:
    torch.manual_seed(99)
    again = fit_head(synthetic(400, seed=1), steps=400)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), fitted.parameters(), strict=True))


@torch.no_grad()
def test_margins_cover_the_asked_share_of_unseen_pictures(fitted: DistortionHead) -> None:
    margins = conformal_margins(fitted, synthetic(500, seed=3))
    unseen = synthetic(4000, seed=4)
    predicted = fitted(unseen.linear_psnr_db, unseen.features)
    growth = torch.tensor([margin_growth(length) for length in CANDIDATE_LENGTHS])
    for coverage in COVERAGES:
        met = unseen.true_psnr_db >= predicted - margins[str(coverage)] * growth
        # Two standard errors of a quantile from 500 pictures.
        slack = 2 * (coverage * (1 - coverage) / 500) ** 0.5
        assert met.double().mean(0).min() >= coverage - slack


def test_margins_grow_with_coverage(fitted: DistortionHead) -> None:
    margins = conformal_margins(fitted, synthetic(300, seed=5))
    assert list(margins) == [str(coverage) for coverage in COVERAGES]
    assert list(margins.values()) == sorted(margins.values())


def test_few_pictures_give_the_worst_seen_as_margin(fitted: DistortionHead) -> None:
    """5 pictures cannot promise 99 %: the margin is their largest excess, and no index error."""
    curves = synthetic(5, seed=6)
    with torch.no_grad():
        excess = fitted(curves.linear_psnr_db, curves.features) - curves.true_psnr_db
        excess /= torch.tensor([margin_growth(length) for length in CANDIDATE_LENGTHS])
    assert conformal_margins(fitted, curves)["0.99"] == pytest.approx(float(excess.max()), abs=1e-3)
