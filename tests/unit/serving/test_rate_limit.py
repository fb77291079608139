"""Token buckets: the rate holds on average, nothing is refused for ever, and the advice to wait is right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import rate_limit
from serving.rate_limit import Allowance, KeyBudget, RateLimits
from serving.status import Draining, InvalidRequest, NotReady, QueueFull, RateLimited, StatusError


class Clock:
    """Time that passes on command."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def budget(
    clock: Clock, pictures: float | None = None, megapixels: float | None = None, burst_s: float = 1.0
):
    return KeyBudget(RateLimits(pictures, megapixels, burst_s), clock)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.01, 20)), min_size=1, max_size=60))
def test_no_more_is_spent_than_the_rate_and_one_burst_and_one_debt_allow(steps):
    clock = Clock()
    spender = budget(clock, megapixels=5.0, burst_s=2.0)
    spent, largest, began_s = 0.0, 0.0, clock.now_s
    for pause_s, cost in steps:
        clock.now_s += pause_s
        try:
            spender.spend(0, cost)
        except RateLimited:
            continue
        spent, largest = spent + cost, max(largest, cost)
    assert spent <= 5.0 * (clock.now_s - began_s) + 10.0 + largest + 1e-6


@given(st.floats(0.1, 50), st.floats(0.6, 100))
def test_who_waits_as_long_as_advised_is_let_in_and_not_before(rate, bursts):
    clock, cost = Clock(), bursts * rate
    spender = budget(clock, megapixels=rate)
    spender.spend(0, cost)
    with pytest.raises(RateLimited) as caught:
        spender.spend(0, cost)
    wait_s = caught.value.retry_after_s
    clock.now_s += wait_s * 0.99
    with pytest.raises(RateLimited):
        spender.spend(0, cost)
    clock.now_s += wait_s * 0.01 + 1e-6
    spender.spend(0, cost)


def test_a_picture_larger_than_the_burst_is_let_in_once_the_bucket_is_full():
    clock = Clock()
    spender = budget(clock, megapixels=1.0)
    spender.spend(0, 50.0)
    clock.now_s += 49.0
    with pytest.raises(RateLimited):
        spender.spend(0, 50.0)
    clock.now_s += 1.0 + 1e-6
    spender.spend(0, 50.0)


def test_a_rate_below_one_picture_per_burst_still_lets_one_in():
    spender = budget(Clock(), pictures=0.1)
    spender.spend(1, 0)
    with pytest.raises(RateLimited, match="pictures"):
        spender.spend(1, 0)


def test_what_one_bucket_refuses_the_other_does_not_pay():
    clock = Clock()
    spender = budget(clock, pictures=2.0, megapixels=1.0)
    spender.spend(1, 5.0)
    with pytest.raises(RateLimited, match="megapixels"):
        spender.spend(1, 1.0)
    spender.spend(1, 0)


def test_without_limits_nothing_is_refused():
    spender = budget(Clock())
    for _ in range(1000):
        spender.spend(1, 1e6)


def allowance(spender: KeyBudget, refused: list[str], *, is_bulk: bool) -> Allowance:
    return Allowance("Some", lambda: spender, is_bulk=is_bulk, on_refusal=refused.append)


def test_previews_after_the_first_are_booked_and_never_refused():
    clock, refused = Clock(), []
    spender = budget(clock, pictures=1.0)
    stream = allowance(spender, refused, is_bulk=False)
    stream.enter()
    for _ in range(4):
        stream.picture(1_000_000)
    clock.now_s += 3.9
    with pytest.raises(RateLimited):
        allowance(spender, refused, is_bulk=False).enter()
    clock.now_s += 0.2
    allowance(spender, refused, is_bulk=False).enter()
    assert refused == ["Some"]


def test_each_item_of_a_bulk_rpc_counts_and_may_be_refused():
    refused: list[str] = []
    bulk = allowance(budget(Clock(), pictures=2.0), refused, is_bulk=True)
    bulk.enter()
    bulk.picture(1)
    bulk.picture(1)
    with pytest.raises(RateLimited):
        bulk.picture(1)
    assert refused == ["Some"]


def shed(error: StatusError, allowance: Allowance, *, after_work_began: bool = False) -> None:
    """An RPC that is paid for, let in, and ends with this error."""
    allowance.enter()
    rate_limit.begin(allowance)
    with pytest.raises(type(error)), rate_limit.unpaid_if_shed():
        if after_work_began:
            allowance.picture(1)
        raise error


@pytest.mark.parametrize(
    "error",
    [QueueFull("full", bound="queue_items", retry_after_s=0.1), NotReady("loading"), Draining("going")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_shed_before_it_is_worked_on_costs_nothing(error):
    spender = budget(Clock(), pictures=1.0)
    for _ in range(5):
        shed(error, allowance(spender, [], is_bulk=False))
    allowance(spender, [], is_bulk=False).enter()
    with pytest.raises(RateLimited):
        allowance(spender, [], is_bulk=False).enter()


def test_what_the_caller_caused_and_what_was_begun_stays_paid():
    full = QueueFull("full", bound="queue_items", retry_after_s=0.1)
    for error, after_work_began in ((InvalidRequest("nonsense"), False), (full, True)):
        spender = budget(Clock(), pictures=1.0)
        shed(error, allowance(spender, [], is_bulk=False), after_work_began=after_work_began)
        with pytest.raises(RateLimited):
            allowance(spender, [], is_bulk=False).enter()


def test_giving_back_never_fills_a_bucket_above_its_burst():
    spender = budget(Clock(), pictures=2.0)
    spender.give_back_picture()
    spender.spend(2, 0)
    with pytest.raises(RateLimited):
        spender.spend(1, 0)
