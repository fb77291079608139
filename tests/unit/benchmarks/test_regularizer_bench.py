"""What the comparison of regularizers measures, on a model before training, where the answers are known."""

from collections.abc import Iterator

import pytest
import torch
from generated_pictures import picture
from torch import Tensor

from benchmarks.regularizers import CODING_RATE, SPECTRAL_NORM, WEIGHTS, configs
from benchmarks.regularizers_report import Run, page
from benchmarks.robustness import BYTE_COUNTS, CODE_DIMENSIONS, Robustness, rounded_to_int8
from tokenizer.canvas import Size
from tokenizer.model import AdaptiveTokenizer, ModelConfig
from training.config import DataConfig
from training.data import PictureSet
from training.linear_codec import LinearCodecConfig, fit_linear_codec
from training.regularizers import layer_weights

CANVAS = Size(64, 64)


@pytest.fixture(scope="module")
def untrained() -> Iterator[Robustness]:
    made = tuple(picture(seed, 64, 64) for seed in range(400, 408))
    pictures = PictureSet(tuple(map(str, range(len(made)))), made)
    config = LinearCodecConfig(num_classes=2, num_iterations=2)
    tables = fit_linear_codec(lambda: pictures.centre_batches(8, CANVAS), config, CANVAS)
    torch.manual_seed(0)
    yield Robustness(AdaptiveTokenizer(ModelConfig((16,), (1,)), tables), pictures, CANVAS)


def all_weights(measured: Robustness) -> list[Tensor]:
    return [weight.detach().clone() for _, weight in layer_weights(measured.model)]


def test_a_decoder_before_training_passes_noise_on_as_it_is(untrained: Robustness) -> None:
    assert untrained.noise_gain() == pytest.approx(1.0, abs=1e-3)


def test_psnr_grows_with_bytes_and_int8_costs_an_untrained_decoder_nothing(untrained: Robustness) -> None:
    psnr_db = untrained.psnr_db()
    assert list(psnr_db) == list(BYTE_COUNTS)
    assert sorted(psnr_db.values()) == list(psnr_db.values())
    assert untrained.int8_loss_db() == {count: pytest.approx(0, abs=1e-5) for count in BYTE_COUNTS}
    assert 0 <= untrained.more_bytes_cost_share() < 0.5


def test_rounding_to_int8_changes_weights_within_and_leaves_them_as_they_were(untrained: Robustness) -> None:
    before = all_weights(untrained)
    with rounded_to_int8(untrained.model.synthesis):
        within = all_weights(untrained)
    after = all_weights(untrained)
    assert any(not torch.equal(a, b) for a, b in zip(before, within, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_codes_have_a_rate_and_a_rank_within_their_bounds(untrained: Robustness) -> None:
    assert 0 < untrained.coding_rate() < 0.81
    assert 1 <= untrained.effective_rank() <= CODE_DIMENSIONS
    assert untrained.worst_norm() > 0


@pytest.mark.parametrize("penalty", WEIGHTS)
def test_runs_of_a_comparison_differ_in_one_weight_and_begin_without_it(penalty: str) -> None:
    runs = list(configs(penalty, DataConfig(), steps=10))
    weights = [getattr(run.regularizers, f"{penalty}_weight") for run in runs]
    assert weights[0] == 0 and sorted(weights) == weights and len(set(weights)) == 3
    assert len({(run.model, run.optim, run.seed) for run in runs}) == 1
    other = {CODING_RATE: SPECTRAL_NORM, SPECTRAL_NORM: CODING_RATE}[penalty]
    assert not any(getattr(run.regularizers, f"{other}_weight") for run in runs)


def test_the_page_has_one_row_per_weight() -> None:
    numbers = {16: 20.0, 64: 21.0, 256: 22.0}
    losses = {16: 0.0, 64: 0.01, 256: 0.02}
    runs = [Run(weight, numbers, 0.1, 1.5, losses, 4.0, 0.5, 7.0) for weight in (0.0, 0.1)]
    text = page(SPECTRAL_NORM, runs, steps=10, pictures=5, held_out=3)
    assert "10 steps of 16 of 5 pictures" in text
    assert "| 0.1 | 20.000 | 21.000 | 22.000 | 10.0 | 1.500 | 0.0000 | 0.0100 | 0.0200 | 4.00 |" in text
