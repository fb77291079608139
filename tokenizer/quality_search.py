"""The length that reaches a quality, found with real decodes. Knows no model: it is given a way to measure.

verify   at most two decodes: at the predicted length, then where the curve, moved through what was
         measured, meets the target
exact    as many as it takes to end between a length that misses and the next, which meets
"""

from __future__ import annotations

from collections.abc import Callable

from tokenizer.bitstream import header_size_bytes
from tokenizer.budget import TokenBudget, choose_length
from tokenizer.distortion import DistortionCurve
from tokenizer.sequence import TokenSequence

Measure = Callable[[int], float]
"""Length -> PSNR in dB of that prefix against the source: one decode."""

# What a step along the curve must allow for: the true curve is rough by some hundredths of a decibel, and
# the predicted slope is wrong by about a tenth (both measured on validation pictures).
ROUGHNESS_DB = 0.01
SLOPE_ERROR = 0.1


def quality_length(whole: TokenSequence, budget: TokenBudget, measure: Measure) -> int:
    """The length that a quality budget keeps of a freshly encoded stream. Raises InvalidBudget."""
    promised = choose_length(
        budget,
        available_tokens=whole.length,
        header_size_bytes=header_size_bytes(whole.source, whole.canvas),
        source_area_px=whole.source.area_px,
        curve=whole.curve,
    )
    if budget.mode == "fast":
        return promised
    assert budget.min_psnr_db is not None and whole.curve is not None  # checked by budget and choose_length
    if budget.mode == "verify":
        return verified_length(whole.curve, budget.min_psnr_db, promised, whole.length, measure)
    return exact_length(whole.curve, budget.min_psnr_db, whole.length, measure)


def verified_length(
    curve: DistortionCurve, min_psnr_db: float, promised: int, available: int, measure: Measure
) -> int:
    """A length that was seen to reach the target, with at most two decodes; else at least the promised one.

    `promised` is what the curve with its margin chooses. So the target is met wherever the promise would
    have met it, and nearly always with fewer tokens.
    """
    first = _predicted_length(curve, min_psnr_db, available)
    first_db = measure(first)
    second = _step(curve, min_psnr_db, first, first_db, available)
    if first_db >= min_psnr_db:
        return second if second < first and measure(second) >= min_psnr_db else first
    if first == available:
        return available
    second = max(second, first + 1)
    second_db = measure(second)
    if second_db >= min_psnr_db:
        return second
    third = _step(curve, min_psnr_db, second, second_db, available)
    return min(available, max(promised, third, second + 1))


def exact_length(curve: DistortionCurve, min_psnr_db: float, available: int, measure: Measure) -> int:
    """A length that reaches the target while one token less does not; all tokens if they do not either."""
    misses, meets = 0, available + 1  # what lies outside: nothing, and more than there is
    guess, stride = _predicted_length(curve, min_psnr_db, available), 1
    while meets - misses > 1:
        guess_db = measure(guess)
        if guess_db >= min_psnr_db:
            meets = guess
        else:
            misses = guess
        if misses > 0 and meets <= available:
            guess = (misses + meets) // 2
            continue
        # One-sided: go to where the curve points, and ever farther beyond it until the other side shows.
        aim = _step(curve, min_psnr_db, guess, guess_db, available)
        aim += stride if guess == misses else -stride
        guess, stride = min(max(aim, misses + 1), meets - 1), 4 * stride
    return min(meets, available)


def _predicted_length(curve: DistortionCurve, min_psnr_db: float, available: int) -> int:
    """Where the prediction itself meets the target: half of the pictures need less."""
    length = curve.shortest_length(min_psnr_db, coverage=None)
    return available if length is None else min(length, available)


def _step(curve: DistortionCurve, min_psnr_db: float, length: int, measured_db: float, available: int) -> int:
    """Where the curve, moved so that it goes through the measured point, meets the target with some room."""
    missing_db = min_psnr_db - measured_db
    room_db = ROUGHNESS_DB + SLOPE_ERROR * abs(missing_db)
    aim = curve.shortest_length(curve.psnr_db_at(length) + missing_db + room_db, coverage=None)
    return available if aim is None else min(aim, available)
