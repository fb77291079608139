"""What a run shows of itself: validation, level usage, sheets, meters, TensorBoard."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_pictures import picture
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tokenizer.canvas import Size
from training.config import TrainConfig
from training.data import PictureSet
from training.distributed import World
from training.evaluate import BYTE_COUNTS
from training.linear_codec import LinearCodecConfig
from training.meters import RatioMeter, Speed
from training.recipes import debug_tiny
from training.trainer import Trainer
from training.validation import SHEET_BYTES, SHEET_TITLE, HeldOut, Validation

CANVAS, CPU = Size(64, 64), torch.device("cpu")


def made(count: int, seed: int) -> PictureSet:
    pictures = tuple(picture(seed + number, 64, 80) for number in range(count))
    return PictureSet(tuple(map(str, range(count))), pictures)


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    linear = LinearCodecConfig(num_classes=2, num_iterations=2)
    facts = {"num_steps": 4, "batch_size": 2, "log_every": 2, "validate_every": 4, "sheet_every": 4}
    return dataclasses.replace(debug_tiny(), linear=linear, **facts)


@pytest.fixture(scope="module")
def trained(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = Trainer(config, made(12, 200), tmp_path_factory.mktemp("run"), held_out=made(3, 300))
    trainer.run()
    return trainer


@pytest.fixture(scope="module")
def events(trained: Trainer) -> EventAccumulator:
    return EventAccumulator(str(trained.folder)).Reload()


@pytest.fixture(scope="module")
def untrained(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Validation]:
    trainer = Trainer(config, made(12, 200), tmp_path_factory.mktemp("untrained"), held_out=made(3, 300))
    assert trainer.held_out is not None
    return trainer, trainer.held_out.validate(trainer.model)


def test_before_training_the_decoder_is_as_good_as_the_linear_codec(
    untrained: tuple[Trainer, Validation],
) -> None:
    _, result = untrained
    assert tuple(result.psnr_db) == tuple(result.linear_psnr_db) == BYTE_COUNTS
    # bf16 analysis moves few coefficients over a border.
    assert result.gain_db == pytest.approx(dict.fromkeys(BYTE_COUNTS, 0.0), abs=0.02)
    values = list(result.psnr_db.values())
    assert values == sorted(values)


def test_validation_is_the_mean_over_pictures(untrained: tuple[Trainer, Validation]) -> None:
    trainer, whole = untrained
    assert trainer.held_out is not None
    single = [
        HeldOut(trainer.held_out.pictures[i : i + 1], CPU).validate(trainer.model).psnr_db[64]
        for i in range(3)
    ]
    assert whole.psnr_db[64] == pytest.approx(np.mean(single), abs=0.01)


def test_validation_is_one_line(untrained: tuple[Trainer, Validation]) -> None:
    line = str(untrained[1])
    assert "\n" not in line
    assert line.startswith("PSNR dB decoder/linear at bytes: 24 ")
    assert " · 2048 " in line


def test_level_usage_says_how_evenly_cells_are_used(untrained: tuple[Trainer, Validation]) -> None:
    """Signs are nearly even; the compander, twice as wide as the data, leaves outer cells rarer."""
    usage = untrained[1].level_usage
    assert list(usage) == [1, 2, 3]
    assert usage[1] > 0.97
    assert all(0.5 < share <= 1 for share in usage.values())


def test_a_sheet_shows_originals_and_better_and_better_pictures(
    untrained: tuple[Trainer, Validation],
) -> None:
    trainer, _ = untrained
    assert trainer.held_out is not None
    sheet = trainer.held_out.sheet(trainer.model)
    assert sheet.shape == (3 * 64, (1 + len(SHEET_BYTES)) * 64, 3)
    assert sheet.dtype == np.uint8
    columns = np.split(sheet.astype(float), 1 + len(SHEET_BYTES), axis=1)
    assert np.array_equal(columns[0], trainer.held_out.pictures.reshape(3 * 64, 64, 3))
    errors = [float(np.mean((column - columns[0]) ** 2)) for column in columns]
    assert errors[1:] == sorted(errors[1:], reverse=True)


def test_tensorboard_gets_every_curve(events: EventAccumulator) -> None:
    tags = set(events.Tags()["scalars"])
    assert tags >= {f"validation_{kind}/{count}" for kind in ("psnr_db", "gain_db") for count in BYTE_COUNTS}
    assert tags >= {f"train/{name}" for name in ("prefix", "full", "gradient_norm", "rate", "pictures_per_s")}
    assert tags >= {"ratio_db/512+", "level_usage/plane_1", "level_usage/plane_3"}
    assert [event.step for event in events.Scalars("train/prefix")] == [2, 4]
    assert [event.step for event in events.Scalars("validation_psnr_db/24")] == [4]


def test_tensorboard_gets_the_sheet(events: EventAccumulator) -> None:
    (image,) = events.Images(SHEET_TITLE)
    assert (image.step, image.width, image.height) == (4, 6 * 64, 3 * 64)


def test_watching_does_not_change_the_run(trained: Trainer, config: TrainConfig, tmp_path: Path) -> None:
    unwatched = dataclasses.replace(config, validate_every=0, sheet_every=0)
    blind = Trainer(unwatched, made(12, 200), tmp_path)
    blind.run()
    expected = trained.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in blind.model.state_dict().items())


def test_only_the_first_process_writes(config: TrainConfig, tmp_path: Path) -> None:
    """A rank that trains by itself, as far as it knows: there is nobody to average with."""
    second = dataclasses.replace(config, validate_every=0, sheet_every=0, num_steps=1)
    Trainer(second, made(4, 200), tmp_path, world=World(rank=1, size=1), held_out=made(1, 300)).save()
    assert list(tmp_path.iterdir()) == []


def test_ratios_are_sorted_into_buckets_of_bytes() -> None:
    meter = RatioMeter(CPU)
    meter.add(torch.tensor([8, 23, 24, 2048]), torch.tensor([1.0, 3.0, 10.0, 1.0]), torch.full((4,), 10.0))
    assert meter.read(World()) == pytest.approx({"0-23": -6.9897, "24-63": 0.0, "512+": -10.0}, abs=1e-3)
    assert meter.read(World()) == {}


def test_speed_counts_only_what_it_times() -> None:
    speed = Speed()
    with speed.timing(3):
        pass
    assert speed.read() > 0
    assert speed.read() == 0
