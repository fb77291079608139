"""Recipes: functions that return a whole config. Add one by writing a function and listing it."""

from __future__ import annotations

from collections.abc import Callable

from tokenizer.canvas import Size
from tokenizer.model import ModelConfig, RefinerConfig
from training.config import DataConfig, OptimConfig, TrainConfig
from training.linear_codec import LinearCodecConfig
from training.realism import RefinerTrainConfig


def debug_tiny() -> TrainConfig:
    """Seconds on one core: the whole chain for tests, on pictures of 64 pixels."""
    return TrainConfig(
        name="debug_tiny",
        linear=LinearCodecConfig(num_classes=4, num_iterations=4),
        model=ModelConfig(
            decoder_widths=(16, 32), decoder_depths=(1, 1), encoder_widths=(16,), encoder_depths=(1,)
        ),
        optim=OptimConfig(warmup_steps=5),
        canvases=(Size(64, 64),),
        batch_size=4,
        num_steps=20,
        log_every=5,
        checkpoint_every=10,
    )


def small_256() -> TrainConfig:
    """The first shipped model: the decoder network alone on the linear codec; 70 minutes on 2 cores."""
    return TrainConfig(
        name="small_256",
        data=DataConfig(),
        full_length=False,
        num_steps=13_000,
    )


def small_256_joint() -> TrainConfig:
    """Continue `small_256` with an encoder network; full length and one prefix each step."""
    return TrainConfig(
        name="small_256_joint",
        model=ModelConfig(encoder_widths=(32, 64, 128), encoder_depths=(1, 1, 1)),
        optim=OptimConfig(learning_rate=3e-4),
        num_steps=2_000,
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    recipe.__name__: recipe for recipe in (debug_tiny, small_256, small_256_joint)
}


def refiner_debug() -> RefinerTrainConfig:
    """Seconds on one core: the refiner's whole chain for tests, on the canvas of `debug_tiny`."""
    return RefinerTrainConfig(
        name="refiner_debug",
        refiner=RefinerConfig(widths=(16, 32), depths=(1, 1)),
        optim=OptimConfig(warmup_steps=5),
        canvas=Size(64, 64),
        crop=Size(32, 32),
        batch_size=4,
        num_steps=20,
        log_every=5,
        checkpoint_every=10,
    )


def refiner_small_256() -> RefinerTrainConfig:
    """Refiner of a model trained at 256 pixels."""
    return RefinerTrainConfig(name="refiner_small_256")


REFINER_RECIPES: dict[str, Callable[[], RefinerTrainConfig]] = {
    recipe.__name__: recipe for recipe in (refiner_debug, refiner_small_256)
}
