"""The items of a bulk call in work, without any stream: order, window, breaks."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client.errors import InvalidRequest, Overloaded, ServerFault, ServiceError, Unavailable
from serving.client.many import Bulk, Codec, window_of

GONE = Unavailable("gone", code=grpc.StatusCode.UNAVAILABLE)


def build(item_id: int, source: str) -> tuple[int, str]:
    if source == "bad":
        raise ValueError("no picture")
    return item_id, source


def reply(item_id: int, result: object = "done") -> SimpleNamespace:
    return SimpleNamespace(item_id=item_id, result=result)


def bulk(window: int = 3, max_resumes: int = 2) -> Bulk:
    return Bulk(Codec(build, lambda reply: reply.result), window=window, max_resumes=max_resumes)


def test_there_is_room_for_one_window_and_answers_make_more():
    work = bulk(window=2)
    work.add("a")
    assert work.has_room
    work.add("b")
    assert not work.has_room and work.is_waiting
    work.answered(reply(0))
    assert list(work.ready()) == [(0, "done")]
    assert work.has_room


def test_an_item_refused_here_waits_for_its_turn():
    work = bulk()
    work.add("a")
    assert work.add("bad") is None
    assert list(work.ready()) == []
    work.answered(reply(0))
    (_, (key, error)) = work.ready()
    assert key == 1 and isinstance(error, InvalidRequest) and error.reason == "REQUEST_MALFORMED"
    assert not work.is_waiting


def test_only_what_is_unanswered_is_sent_again():
    work = bulk()
    for source in ("a", "bad", "c"):
        work.add(source)
    work.answered(reply(0))
    assert work.unanswered == [(2, "c")]


@pytest.mark.parametrize("item_id", [1, 7, -1])
def test_an_answer_to_another_item_is_a_fault(item_id):
    work = bulk()
    with pytest.raises(ServerFault):
        work.answered(reply(0))
    work.add("a")
    with pytest.raises(ServerFault):
        work.answered(reply(item_id))


def test_a_leaving_server_is_a_break_until_breaks_bring_nothing():
    work = bulk(max_resumes=2)
    work.add("a")
    for _ in range(2):
        with pytest.raises(Unavailable):
            work.answered(reply(0, GONE))
        work.pause_s(GONE)
    work.answered(reply(0, GONE))
    assert list(work.ready()) == [(0, GONE)]


def test_an_answer_starts_the_count_of_breaks_again():
    work = bulk(max_resumes=1)
    for item_id in range(5):
        work.add("a")
        work.pause_s(GONE)
        work.answered(reply(item_id))
        list(work.ready())
    work.pause_s(GONE)
    with pytest.raises(Unavailable):
        work.pause_s(GONE)


def test_pauses_grow_and_are_as_long_as_the_server_says():
    work = bulk(max_resumes=20)
    pauses = [work.pause_s(GONE) for _ in range(10)]
    assert 0.08 <= pauses[0] <= 0.12
    assert 4 <= pauses[-1] <= 6
    full = Overloaded("full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=60)
    assert bulk().pause_s(full) == 60


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no", code=grpc.StatusCode.INVALID_ARGUMENT),
        Overloaded("no advice", code=grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_a_new_stream_would_not_help_against_that(error: ServiceError):
    with pytest.raises(type(error)):
        bulk().pause_s(error)


@given(st.lists(st.sampled_from(["add", "bad", "answer", "break"]), max_size=60), st.integers(1, 5))
def test_whatever_happens_results_are_complete_and_in_order(steps, window):
    work, sent, seen, added = bulk(window, max_resumes=10**6), [], [], 0
    for step in steps:
        if step in ("add", "bad") and work.has_room:
            added += 1
            if (message := work.add(step)) is not None:
                sent.append(message)
        elif step == "answer" and sent:
            work.answered(reply(sent.pop(0)[0]))
        elif step == "break":
            work.pause_s(GONE)
            sent = work.unanswered
        seen += [key for key, _ in work.ready()]
        assert len(sent) <= window and sent == work.unanswered
    while sent:
        work.answered(reply(sent.pop(0)[0]))
    assert seen + [key for key, _ in work.ready()] == list(range(added))


def test_a_window_is_never_above_the_servers():
    assert [window_of(None, 4), window_of(2, 4), window_of(9, 4), window_of(9, 0)] == [4, 2, 4, 8]
    with pytest.raises(ValueError):
        window_of(0, 4)
