"""A quality that was asked and is not reached, in words. Knows no files, writes nothing."""

from __future__ import annotations

from collections.abc import Callable

from tokenizer.budget import TokenBudget
from tokenizer.sequence import TokenSequence


def expected_shortfall(kept: TokenSequence, budget: TokenBudget | None) -> str | None:
    """What to warn of where no length of a fresh stream is expected to reach the quality."""
    if budget is None or budget.min_psnr_db is None or kept.curve is None:
        return None
    if kept.curve.shortest_length(budget.min_psnr_db, budget.coverage) is not None:
        return None
    best_db = max(kept.curve.lower_bound_db(length, budget.coverage) for length in kept.curve.lengths)
    return (
        f"not expected to reach {budget.min_psnr_db:g} dB, at best {best_db:.1f} dB at coverage "
        f"{budget.coverage:g}: all {kept.length} tokens are kept"
    )


def measured_shortfall(
    kept: TokenSequence,
    whole: TokenSequence,
    budget: TokenBudget | None,
    measure: Callable[[TokenSequence], float],
) -> str | None:
    """The same for a mode that decodes; `measure` gives PSNR in dB, at the cost of a decode."""
    if budget is None or budget.mode == "fast":
        return expected_shortfall(kept, budget)
    # A shorter stream was seen to reach it, or is as long as the curve promises for it.
    if kept.length < whole.length:
        return None
    assert budget.min_psnr_db is not None  # checked by TokenBudget
    best_db = measure(whole)
    if best_db >= budget.min_psnr_db:
        return None
    return f"reaches {best_db:.1f} of {budget.min_psnr_db:g} dB: all {kept.length} tokens are kept"
