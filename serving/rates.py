"""From a rate and an encoded picture to the length that is sent. Pure; knows no RPCs."""

from __future__ import annotations

from serving.commands import Encoded, Rate, StopReason
from serving.status import InvalidRequest, Unsupported
from tokenizer.bitstream import header_size_bytes
from tokenizer.budget import TokenBudget, choose_length
from tokenizer.errors import InvalidBudget
from tokenizer.sequence import TokenSequence


def apply_rate(whole: TokenSequence, rate: Rate) -> Encoded:
    """The prefix that keeps the rate. Raises InvalidRequest RATE_UNREACHABLE, or Unsupported."""
    budget = rate.budget
    if budget is None:
        return Encoded(whole, whole.length, StopReason.ALL_TOKENS)
    length = _length(whole, budget)
    if budget.min_psnr_db is not None:
        return _for_quality(whole, length, budget, rate.fail_short)
    if length == whole.length:
        return Encoded(whole, length, StopReason.ALL_TOKENS)
    limit = StopReason.TOKEN_LIMIT if budget.max_tokens is not None else StopReason.SIZE_LIMIT
    return Encoded(whole, length, limit)


def cut(sequence: TokenSequence, budget: TokenBudget | None) -> TokenSequence:
    """The prefix that keeps a limit in tokens, bytes or bits per pixel. Raises InvalidRequest."""
    return sequence if budget is None else sequence.prefix(_length(sequence, budget))


def rate_kind(rate: Rate) -> str:
    """all, tokens, bytes or quality: a label of metrics."""
    if rate.budget is None:
        return "all"
    if rate.budget.max_tokens is not None:
        return "tokens"
    return "quality" if rate.budget.min_psnr_db is not None else "bytes"


def _length(whole: TokenSequence, budget: TokenBudget) -> int:
    if budget.min_psnr_db is not None and whole.curve is None:
        raise Unsupported("this model predicts no quality; ask for bytes instead", field="rate.quality")
    header = header_size_bytes(whole.source, whole.canvas)
    try:
        return choose_length(
            budget,
            available_tokens=whole.length,
            header_size_bytes=header,
            source_area_px=whole.source.area_px,
            curve=whole.curve,
        )
    except InvalidBudget as error:
        raise InvalidRequest(
            str(error), reason="RATE_UNREACHABLE", field="rate", metadata={"min_size_bytes": header + 1}
        ) from error


def _for_quality(whole: TokenSequence, length: int, budget: TokenBudget, fail_short: bool) -> Encoded:
    assert budget.min_psnr_db is not None and whole.curve is not None  # _length checked both
    if whole.curve.shortest_length(budget.min_psnr_db, budget.coverage) is not None:
        return Encoded(whole, length, StopReason.QUALITY_REACHED)
    if not fail_short:
        return Encoded(whole, length, StopReason.QUALITY_UNREACHABLE)
    best_db = max(whole.curve.lower_bound_db(n, budget.coverage) for n in whole.curve.lengths)
    raise InvalidRequest(
        f"this picture is expected to reach {best_db:.2f} dB, not {budget.min_psnr_db:.2f}",
        reason="RATE_UNREACHABLE",
        field="rate.quality",
        metadata={"best_quality": f"{best_db:.3f}"},
    )
