"""Which decodes a perception run asks for, with and without a realism knob, and what its page says."""

from typing import Any

from benchmarks.perception import has_realism, knobs
from benchmarks.perception_report import BYTE_COUNTS, FIDELITY, REALISM, Point, Report, page


class WithKnob:
    name, version, fingerprint = "model", "1", "0011aabb"

    has_realism = True


class WithoutKnob(WithKnob):
    has_realism = False


def test_a_model_without_a_knob_is_measured_at_fidelity_only() -> None:
    plain: Any = WithoutKnob()
    assert not has_realism(plain)
    assert knobs(plain, [0.5, 1.0], [1, 4]) == [{}]


def test_realism_zero_is_fidelity_and_measured_once() -> None:
    model: Any = WithKnob()
    assert has_realism(model)
    asked = knobs(model, [0.0, 0.5], [1, 4])
    assert asked == [{}, {"realism": 0.5, "steps": 1}, {"realism": 0.5, "steps": 4}]


def test_the_page_tells_a_model_without_a_knob_and_peers_that_were_left_out() -> None:
    model: Any = WithKnob()
    plain = [Point(FIDELITY, count, {}, 20.0, (0.3, 0.1)) for count in BYTE_COUNTS]
    text = page(Report("set", 2, tuple(plain), (32, 16), (0.03, 0.01)), model)
    assert "fidelity only" in text and "left out" in text
    assert "| Tessera, fidelity | 20.00 | 200 | 300 | 100 |" in text
    knob = [Point(REALISM, count, {"realism": 1.0, "steps": 4}, 19.0, (0.1, 0.1)) for count in BYTE_COUNTS]
    text = page(Report("set", 2, (*plain, *knob), (32, 16), (0.03, 0.01)), model)
    assert "fidelity only" not in text
    assert "| Tessera, realism 1, steps 4 | 19.00 | 100 | 100 | 100 |" in text
