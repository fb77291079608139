"""Recipes: functions that return a whole config. Add one by writing a function and listing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tokenizer.canvas import DEFAULT_AREA_PX, Size, choose_canvas
from tokenizer.model import ModelConfig, RefinerConfig, RegisterConfig
from training.adversary import AdversaryConfig
from training.config import ContextConfig, OptimConfig, TrainConfig
from training.linear_codec import LinearCodecConfig
from training.realism import RefinerTrainConfig

# Width : height and how often, upright and sideways: photographs are mostly 3:2 and 4:3, and squares are
# what everybody compares on, so they come first: the linear codec is fitted on the first canvas.
ASPECTS = {
    (1, 1): 4.0,
    (4, 3): 2.0,
    (3, 4): 2.0,
    (3, 2): 2.0,
    (2, 3): 2.0,
    (16, 9): 1.0,
    (9, 16): 1.0,
    (2, 1): 0.5,
    (1, 2): 0.5,
}


def canvases_of_area(area_px: int) -> dict[Size, float]:
    """Canvases from 1:2 to 2:1 of about one area, as the tokenizer chooses them, with their weights."""
    return {
        choose_canvas(Size(w * area_px, h * area_px), area_px): weight for (w, h), weight in ASPECTS.items()
    }


def debug_tiny() -> TrainConfig:
    """Seconds on one core: the whole chain for tests, on pictures of 64 pixels."""
    return TrainConfig(
        name="debug_tiny",
        linear=LinearCodecConfig(num_classes=4, num_iterations=4),
        contexts=ContextConfig(pictures=8, rounds=1, questions=2000, steps=50),
        model=ModelConfig(
            decoder_widths=(16, 32), decoder_depths=(1, 1), encoder_widths=(16,), encoder_depths=(1,)
        ),
        coded_share=0.0,
        optim=OptimConfig(warmup_steps=5),
        canvases=(Size(64, 64),),
        batch_size=4,
        num_steps=20,
        log_every=5,
        checkpoint_every=10,
        validate_every=10,
        sheet_every=20,
    )


def small_128() -> TrainConfig:
    """Pictures of 128 pixels and a smaller decoder: a quarter of the work, for ablations and thumbnails."""
    return TrainConfig(
        name="small_128",
        model=ModelConfig(decoder_widths=(48, 96, 192), decoder_depths=(1, 2, 2)),
        canvases=(Size(128, 128),),
        scale_range=(0.6, 1.0),
        full_length=False,
        batch_size=16,
        num_steps=10_000,
    )


def small_256_fixed() -> TrainConfig:
    """First stage of the shipped model: the decoder network on the fixed coding; 70 minutes on 2 cores."""
    return TrainConfig(name="small_256_fixed", full_length=False, coded_share=0.0, num_steps=13_000)


def small_256() -> TrainConfig:
    """The shipped model: continues `small_256_fixed` on both codings; an hour on 2 cores."""
    return TrainConfig(
        name="small_256",
        optim=OptimConfig(learning_rate=7e-4, decay_share=0.6),
        full_length=False,
        num_steps=3_500,
    )


def small_256_joint() -> TrainConfig:
    """Continue `small_256` with an encoder network; full length and one prefix each step."""
    return TrainConfig(
        name="small_256_joint",
        model=ModelConfig(encoder_widths=(32, 64, 128), encoder_depths=(1, 1, 1)),
        coded_share=0.0,
        optim=OptimConfig(learning_rate=3e-4),
        num_steps=2_000,
    )


def large() -> TrainConfig:
    """Several GPUs: 59 M parameters, aspects from 1:2 to 2:1, 512 pictures a step; not yet run to its end."""
    canvases = canvases_of_area(DEFAULT_AREA_PX)
    return TrainConfig(
        name="large",
        linear=LinearCodecConfig(num_classes=256, cell_pictures=8192),
        model=ModelConfig(
            decoder_widths=(128, 256, 512),
            decoder_depths=(2, 4, 8),
            encoder_widths=(64, 128, 256),
            encoder_depths=(2, 2, 4),
        ),
        coded_share=0.0,
        # Not measured: a lower rate than the small decoder's, as the larger batch and networks call for.
        optim=OptimConfig(learning_rate=4e-4, warmup_steps=1000, ema_decay=0.9995),
        canvases=tuple(canvases),
        canvas_weights=tuple(canvases.values()),
        scale_range=(0.6, 1.0),
        device_cache=True,
        batch_size=512,
        num_steps=60_000,
        checkpoint_every=1000,
        validation_pictures=256,
    )


def register_debug() -> TrainConfig:
    """Seconds on one core: the whole chain of the register layout for tests, on pictures of 64 pixels."""
    return replace(
        debug_tiny(),
        name="register_debug",
        model=RegisterConfig(num_registers=16, width=64, encoder_depth=1, decoder_depth=1),
        optim=OptimConfig(encoder_rate_share=1.0, warmup_steps=5),
        min_tokens=1,
    )


def register_128() -> TrainConfig:
    """The register layout at 128 pixels, to compare with `small_128`: learned queries, 256 bytes at most."""
    return TrainConfig(
        name="register_128",
        # A third of the work of the default sizes: a core makes some 30 pictures a second.
        model=RegisterConfig(width=192, encoder_depth=2, decoder_depth=2),
        coded_share=0.0,
        # Faster, ids change their meaning before the decoder has learned it (docs/training.md).
        optim=OptimConfig(encoder_rate_share=0.05, warmup_steps=50),
        canvases=(Size(128, 128),),
        scale_range=(0.6, 1.0),
        full_length=False,
        min_tokens=4,
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    recipe.__name__: recipe
    for recipe in (
        debug_tiny,
        small_128,
        small_256_fixed,
        small_256,
        small_256_joint,
        large,
        register_debug,
        register_128,
    )
}


def refiner_debug() -> RefinerTrainConfig:
    """Seconds on one core: the refiner's whole chain for tests, on the canvas of `debug_tiny`."""
    return RefinerTrainConfig(
        name="refiner_debug",
        refiner=RefinerConfig(widths=(16, 32), depths=(1, 1)),
        optim=OptimConfig(warmup_steps=5),
        canvas=Size(64, 64),
        crop=Size(32, 32),
        coded_share=0.0,
        batch_size=4,
        num_steps=20,
        log_every=5,
        checkpoint_every=10,
    )


def refiner_small_256() -> RefinerTrainConfig:
    """The shipped refiner, 1.7 M parameters: the flow alone, then with a critic; 80 minutes on one core."""
    return RefinerTrainConfig(
        name="refiner_small_256",
        refiner=RefinerConfig(widths=(64, 96, 112), depths=(2, 2, 2), condition_width=32, noise_share=0.2),
        optim=OptimConfig(learning_rate=5e-4, decay_share=0.3, ema_decay=0.998),
        crop=Size(96, 96),
        draws_per_decode=16,
        num_steps=9_600,
        min_tokens=24,
        uniform_share=0.1,
        walk_share=0.5,
        adversary=AdversaryConfig(psnr_loss_db=1.0, from_step=2_250),
    )


REFINER_RECIPES: dict[str, Callable[[], RefinerTrainConfig]] = {
    recipe.__name__: recipe for recipe in (refiner_debug, refiner_small_256)
}
