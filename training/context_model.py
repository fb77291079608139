"""Fit the context model of the range-coded form: which coefficients become significant, and where they lie
(signs: see sign_model.py).

scan pictures with the model so far → (features, category, significant?) → a hidden layer in float
                                    → rounded to integers → again, since odds decide the order
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from tokenizer.answers import encoder
from tokenizer.canvas import Size
from tokenizer.contexts import (
    FEATURE_MIN,
    HIDDEN_MAX,
    LOGIT_BITS,
    NUM_FEATURES,
    NUM_SIGN_CATEGORIES,
    NUM_TAPS,
    OCTAVE,
    ContextTables,
    category_count,
)
from tokenizer.embedded import State, watch
from tokenizer.range_coder import ONE
from tokenizer.range_form import RangeLayout
from tokenizer.spectral import SpectralLayout, block_size
from tokenizer.wavelet import pyramid
from training.binary_fit import fit_binary
from training.config import ContextConfig
from training.integer_layers import bias_integers, integers
from training.sign_model import SignSample, fit_signs

# 32 units would save 0.5 % of these bits, a second layer as much again, at twice the time (docs/log.md).
HIDDEN = 24
# Activations carry 7 fractional bits.
ACTIVATION_BITS = 7
DEPTHS = 4
TRAIN_BYTES = 2048
# More than so many bytes hold.
MAX_SIGNS = 6000


@dataclass(frozen=True)
class Sample:
    """Questions asked while scanning: features f32[K, F], category i64[K], is_new f32[K]."""

    features: np.ndarray
    category: np.ndarray
    is_new: np.ndarray


def starting_tables() -> ContextTables:
    """Before any fit: odds grow with the mean of the coefficient's own sigma and its neighbours; a sign takes
    a bit."""
    first = np.zeros((NUM_FEATURES, HIDDEN), np.int16)
    first[:2, 0] = 64
    bias = np.zeros((category_count(), HIDDEN), np.int32)
    bias[:, 0] = -128 * FEATURE_MIN
    second = np.zeros(HIDDEN, np.int16)
    second[0] = 64
    return ContextTables(
        first=first,
        first_bias=bias,
        second=second,
        second_bias=np.full(category_count(), -64 * 7 * 64 - 64 * 45, np.int32),
        shifts=np.asarray((4, 5), np.int32),
        refinement_odds=np.full(DEPTHS, ONE // 2, np.int32),
        fraction=np.asarray((0.41, 0.46, 0.48, 0.5), np.float32),
        sign_first=np.zeros((NUM_TAPS, 1), np.int16),
        sign_bias=np.zeros((NUM_SIGN_CATEGORIES, 1), np.int32),
        sign_second=np.zeros(1, np.int16),
        sign_shifts=np.zeros(2, np.int32),
    )


def fit_contexts(
    spectral: SpectralLayout,
    pictures: list[np.ndarray],
    canvas: Size,
    config: ContextConfig,
    seed: int = 0,
) -> ContextTables:
    """Tables from DCT coefficients f32[3, bh, bw] of pictures."""
    tables = starting_tables()
    for number in range(config.rounds):
        layout = RangeLayout(spectral, tables)
        rows = [
            _scan(layout, picture, canvas, config.questions, seed + 1_000_003 * at)
            for at, picture in enumerate(track(pictures, f"contexts, round {number + 1} of {config.rounds}"))
        ]
        network = _fit_network([row[0] for row in rows], config.steps, seed)
        tables = replace(
            _rounded(network, tables), **_cell_statistics(np.sum([row[1] for row in rows], axis=0))
        )
    return fit_signs([row[2] for row in rows], tables, config.steps, seed)


def _scan(
    layout: RangeLayout, picture: np.ndarray, canvas: Size, questions: int, seed: int
) -> tuple[Sample, np.ndarray, SignSample]:
    """What one picture teaches: a sample of its questions, where its found coefficients lie, its signs."""
    class_id = layout.spectral.choose_class(picture, canvas)
    state = layout.state(class_id, canvas)
    values = pyramid(block_size(canvas)).forward(picture)
    seen = watch(num_questions=questions, num_signs=MAX_SIGNS)
    layout.scan(state, encoder(values, values, TRAIN_BYTES, layout.tables.fraction), seen, seed)
    kept = slice(min(questions, int(seen.num_questions[0])))
    sample = Sample(seen.features[kept].astype(np.float32), seen.category[kept], seen.is_new[kept])
    kept = slice(int(seen.num_signs[0]))
    signs = SignSample(seen.taps[kept], seen.sign_category[kept], seen.is_negative[kept])
    return sample, _moments(state, values), signs


def _moments(state: State, values: np.ndarray) -> np.ndarray:
    """Count and sum of where found coefficients lie in each interval they went through, f64[2, DEPTHS, 2].

    Of the last axis, the first is the place itself, the second its being in the upper half.
    """
    found = np.flatnonzero(state.is_found)
    magnitude = np.abs(values[found])
    moments = np.zeros((2, DEPTHS, 2))
    for depth in range(DEPTHS):
        reached = state.refinements[found] >= depth
        width = np.exp2(np.floor(np.log2(magnitude[reached]))) / 2**depth
        place = np.modf(magnitude[reached] / width)[0]
        moments[0, depth] += len(place)
        moments[1, depth] += place.sum(), (place >= 0.5).sum()
    return moments


def _cell_statistics(moments: np.ndarray) -> dict[str, np.ndarray]:
    share = moments[1] / np.maximum(moments[0], 1)
    return {
        "fraction": share[:, 0].astype(np.float32),
        "refinement_odds": np.clip(np.round(share[:, 1] * ONE), 1, ONE - 1).astype(np.int32),
    }


class _Network(nn.Module):
    """The context model in float: features in octaves -> logit."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(NUM_FEATURES, HIDDEN, bias=False)
        self.second = nn.Linear(HIDDEN, 1, bias=False)
        self.first_bias = nn.Embedding.from_pretrained(torch.zeros(category_count(), HIDDEN), freeze=False)
        self.second_bias = nn.Embedding.from_pretrained(torch.zeros(category_count(), 1), freeze=False)

    def forward(self, features_KF: Tensor, category_K: Tensor) -> Tensor:
        hidden = self.first(features_KF) + self.first_bias(category_K)
        hidden = hidden.clamp(0, (HIDDEN_MAX + 0.5) / 2**ACTIVATION_BITS)
        out: Tensor = (self.second(hidden) + self.second_bias(category_K))[:, 0]
        return out


def _fit_network(samples: list[Sample], steps: int, seed: int) -> _Network:
    torch.manual_seed(seed)
    features = torch.from_numpy(np.concatenate([s.features for s in samples])) / OCTAVE
    category = torch.from_numpy(np.concatenate([s.category for s in samples])).long()
    is_new = torch.from_numpy(np.concatenate([s.is_new for s in samples])).float()
    network = _Network()
    fit_binary(network, features, category, is_new, steps)
    return network


@torch.no_grad()
def _rounded(network: _Network, before: ContextTables) -> ContextTables:
    """Weights as integers, with as many fractional bits as keep every sum below 2^24."""
    one, logit = 2.0**ACTIVATION_BITS, 2.0**LOGIT_BITS
    first, first_shift = integers(network.first.weight.T * one / OCTAVE, -FEATURE_MIN)
    second, second_shift = integers(network.second.weight[0] * logit / one, HIDDEN_MAX)
    return replace(
        before,
        first=first,
        first_bias=bias_integers(network.first_bias.weight * one, first_shift),
        second=second,
        second_bias=bias_integers(network.second_bias.weight[:, 0] * logit, second_shift),
        shifts=np.asarray((first_shift, second_shift), np.int32),
    )
