"""FairQueue: classes share time, whatever the order and number in which their items come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.costs import FADE_HALF_LIFE_S, CostEstimates
from serving.fair_queue import FairQueue


def serve(queue: FairQueue, costs: dict) -> str:
    """Take and charge one item; its class."""
    kind = queue.next_class()
    queue.remove(kind, queue.items(kind)[0])
    queue.charge(kind, costs[kind])
    return kind


def test_within_a_class_the_oldest_comes_first():
    queue = FairQueue()
    for item in "abc":
        queue.append(0, item)
    assert queue.items(0) == ["a", "b", "c"]


def test_a_flood_delays_another_class_by_one_turn():
    queue = FairQueue()
    for number in range(50):
        queue.append("flood", number)
    assert serve(queue, {"flood": 1.0}) == "flood"
    queue.append("other", "x")
    assert serve(queue, {"flood": 1.0, "other": 1.0}) == "other"


def test_a_dear_class_gets_as_much_time_as_a_cheap_one_and_not_as_many_turns():
    queue, costs = FairQueue(), {"dear": 8.0, "cheap": 1.0}
    for number in range(90):
        queue.append("dear", number)
        queue.append("cheap", -number)
    turns = [serve(queue, costs) for _ in range(90)]
    assert turns.count("dear") == 10 and turns.count("cheap") == 80


def test_idling_earns_no_credit():
    queue, costs = FairQueue(), {"busy": 1.0, "idle": 1.0}
    queue.append("idle", 0)
    serve(queue, costs)
    for number in range(60):
        queue.append("busy", number)
    for _ in range(20):
        serve(queue, costs)
    for number in range(20):
        queue.append("idle", number)
    turns = [serve(queue, costs) for _ in range(20)]
    assert 9 <= turns.count("idle") <= 11


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80))
def test_nothing_is_lost_and_what_is_idle_is_forgotten(steps):
    queue, costs, waiting = FairQueue(), dict.fromkeys(range(4), 1.0), []
    for kind, takes in steps:
        if takes and waiting:
            waiting.remove(serve(queue, costs))
        else:
            queue.append(kind, object())
            waiting.append(kind)
        assert len(queue) == len(waiting)
        assert queue.lengths() == {kind: waiting.count(kind) for kind in set(waiting)}
    while waiting:
        waiting.remove(serve(queue, costs))
    assert len(queue) == 0 and queue.lengths() == {}


def test_removing_what_does_not_wait_says_so():
    queue = FairQueue()
    queue.append(0, "a")
    assert [queue.remove(0, "b"), queue.remove(1, "a"), queue.remove(0, "a"), queue.remove(0, "a")] == [
        False,
        False,
        True,
        False,
    ]


def test_the_cost_of_a_class_that_never_ran_is_guessed_from_the_others():
    costs = CostEstimates()
    assert costs.of("a") == 0
    costs.learn("a", 1.0)
    costs.learn("b", 3.0)
    assert (costs.of("a"), costs.of("b"), costs.of("c")) == (1.0, 3.0, 2.0)


def test_costs_follow_what_is_measured():
    costs = CostEstimates()
    for _ in range(50):
        costs.learn("a", 1.0)
    for _ in range(20):
        costs.learn("a", 2.0)
    assert costs.of("a") == 2.0


def test_one_batch_that_stalls_does_not_change_what_the_next_is_expected_to_take():
    costs = CostEstimates()
    for _ in range(5):
        costs.learn("a", 1.0)
    costs.learn("a", 60.0)
    assert costs.of("a") == 1.0


def test_a_cost_that_refuses_work_fades_by_time_until_it_is_measured_again():
    costs = CostEstimates()
    costs.learn("a", 8.0)
    assert costs.faded("a", now=100.0) == 8.0
    costs.doubt("a", now=100.0)
    costs.doubt("a", now=101.0)
    assert costs.faded("a", now=100.0 + 2 * FADE_HALF_LIFE_S) == 2.0
    assert costs.of("a") == 8.0
    costs.learn("a", 1.0)
    assert costs.of("a") == costs.faded("a", now=200.0) == 1.0
