"""Rate schedule and weight average."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from training.config import OptimConfig
from training.losses import relative_distortion, squared_error
from training.optim import WeightAverage, rate_at

CONFIG = OptimConfig(learning_rate=1e-3, warmup_steps=10, decay_share=0.5)


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [rate_at(step, 100, CONFIG) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[10:51] == pytest.approx([1e-3] * 41)
    assert all(a > b for a, b in pairwise(rates[51:]))
    assert rates[100] == 0.0


def test_the_average_starts_warm_and_lags_later() -> None:
    """After the first updates it has all but forgotten its start; with decay 0.9 it then moves by a tenth."""
    module = nn.Linear(1, 1, bias=False)
    average = WeightAverage(module, decay=0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
        for _ in range(200):
            average.update(module)
        assert float(average.module.weight) == pytest.approx(1.0, abs=1e-4)
        module.weight.fill_(2.0)
        average.update(module)
    assert float(average.module.weight) == pytest.approx(1.1, abs=1e-3)


def test_the_average_needs_no_gradient_and_shares_no_memory() -> None:
    module = nn.Linear(2, 2)
    average = WeightAverage(module, decay=0.9)
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert average.module.weight.data_ptr() != module.weight.data_ptr()


def test_every_picture_counts_the_same_in_the_loss() -> None:
    loss = relative_distortion(torch.tensor([50.0, 1.0]), torch.tensor([100.0, 1.0]))
    assert float(loss) == pytest.approx(0.75)


def test_a_picture_that_the_linear_codec_gets_right_does_not_divide_by_zero() -> None:
    assert float(relative_distortion(torch.tensor([0.05]), torch.tensor([0.0]))) == pytest.approx(0.5)


def test_squared_error_is_taken_per_picture() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[1] = 2.0
    assert squared_error(a, b).tolist() == [0.0, 4.0]
