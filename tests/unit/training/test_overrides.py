"""`--set key=value`: typed by the config, applied together, and refused by name."""

from __future__ import annotations

import pytest

from tokenizer.canvas import Size
from training.config import TrainConfig
from training.overrides import OverrideError, override

CONFIG = TrainConfig(name="mine")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size=16", 16),
        ("num_steps=10_000", 10_000),
        ("uniform_share=0.5", 0.5),
        ("full_length=false", False),
        ("device_cache=yes", True),
        ("name=a=b", "a=b"),
        ("canvases=256x256, 320x208", (Size(256, 256), Size(320, 208))),
        ("scale_range=0.6,1", (0.6, 1.0)),
        ("optim.learning_rate=3e-4", 3e-4),
        ("model.encoder_widths=", ()),
        ("data.limit=none", None),
        ("data.limit=5", 5),
        ("data.kinds=photo,art", ("photo", "art")),
    ],
)
def test_a_value_has_the_type_of_its_field(setting: str, value: object) -> None:
    changed = override(CONFIG, [setting])
    for name in setting.partition("=")[0].split("."):
        changed = getattr(changed, name)
    assert changed == value
    assert type(changed) is type(value)


def test_settings_that_only_make_sense_together_are_applied_together() -> None:
    changed = override(CONFIG, ["model.decoder_widths=32,64", "batch_size=2", "model.decoder_depths=1,1"])
    assert (changed.model.decoder_widths, changed.model.decoder_depths) == ((32, 64), (1, 1))
    assert changed.batch_size == 2


def test_nothing_else_is_changed_and_the_later_value_counts() -> None:
    assert override(CONFIG, []) == CONFIG
    assert override(override(CONFIG, ["seed=3", "seed=4"]), [f"seed={CONFIG.seed}"]) == CONFIG


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rate=1", "there is no 'rate'; allowed here: name, data, linear"),
        ("optim.rate=1", "there is no 'optim.rate'; allowed here: optim.learning_rate, optim.encoder"),
        ("optim=1", "'optim' is a group; set one of optim.learning_rate"),
        ("seed.low=1", "'seed' is a single value"),
        ("seed", "'seed' is not key=value"),
        ("seed=1.5", "seed takes a whole number, got '1.5'"),
        ("device_cache=maybe", "device_cache takes true or false, got 'maybe'"),
        ("data.limit=few", "data.limit takes a whole number or none, got 'few'"),
        ("scale_range=1", "scale_range takes 2 numbers separated by commas, got '1'"),
        ("canvases=256", "canvases takes WIDTHxHEIGHT, any number of them separated by commas, got '256'"),
        ("batch_size=0", "at least one picture"),
        ("canvas_weights=1,2", "one weight per canvas"),
        ("data.held_out_share=0.5", "held_out_share is taken twice"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_can(setting: str, message: str) -> None:
    with pytest.raises(OverrideError) as refusal:
        override(CONFIG, [setting])
    assert message in str(refusal.value)
