"""The line of one RPC: its level, its fields, and which lines sampling leaves out."""

from __future__ import annotations

import io
import logging

import grpc
import pytest
import structlog
from structlog.testing import capture_logs

from serving import logs
from serving.access_log import AccessLog
from serving.status import WAIT_ESTIMATE_KEY, DeadlinePassed, DeadlineUnmeetable, QueueFull, failure_of
from serving.trace import RequestTrace, followers

ENCODE = ("unary", "tessera.v1.TokenizerService", "Encode")
HEALTH = ("unary", "grpc.health.v1.Health", "Check")
Code = grpc.StatusCode


@pytest.fixture(autouse=True)
def every_level():
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    yield
    structlog.configure(**before)


def lines_of(code, *, rpc=ENCODE, sample=1.0, request_id="r", failure=None):
    with capture_logs() as lines:
        AccessLog(sample, 10)(rpc, request_id, {}).ended(code, 0.5, failure)
    return lines


@pytest.mark.parametrize(
    ("code", "level"),
    [
        (Code.OK, "info"),
        (Code.INVALID_ARGUMENT, "info"),
        (Code.CANCELLED, "info"),
        (Code.RESOURCE_EXHAUSTED, "warning"),
        (Code.DEADLINE_EXCEEDED, "warning"),
        (Code.UNAVAILABLE, "warning"),
        (Code.INTERNAL, "error"),
        (Code.UNKNOWN, "error"),
    ],
)
def test_an_rpc_gets_one_line_at_the_level_of_its_code(code, level):
    (line,) = lines_of(code)
    assert (line["log_level"], line["code"], line["duration_s"]) == (level, code.name, 0.5)


def test_probes_are_silent_above_debug_unless_they_fail():
    assert lines_of(Code.OK, rpc=HEALTH)[0]["log_level"] == "debug"
    assert lines_of(Code.UNAVAILABLE, rpc=HEALTH)[0]["log_level"] == "debug"
    assert lines_of(Code.INTERNAL, rpc=HEALTH)[0]["log_level"] == "error"


def test_sampling_leaves_out_good_and_shed_rpcs_and_never_another():
    for code in (Code.OK, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE):
        assert lines_of(code, sample=0.0) == []
    for code in (Code.INVALID_ARGUMENT, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INTERNAL):
        assert len(lines_of(code, sample=0.0)) == 1


def test_sampling_keeps_about_the_asked_share_and_the_same_ids_on_every_server():
    kept = [i for i in range(2000) if lines_of(Code.OK, sample=0.25, request_id=f"id-{i}")]
    assert 400 < len(kept) < 600
    assert kept == [i for i in range(2000) if lines_of(Code.OK, sample=0.25, request_id=f"id-{i}")]


def test_in_a_second_few_shed_rpcs_get_a_line_and_the_next_one_says_how_many_did_not(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("serving.access_log.time.monotonic", lambda: clock[0])
    log = AccessLog(1.0, 3)
    codes = [Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE] * 5
    with capture_logs() as lines:
        for code in (*codes, Code.OK, Code.INVALID_ARGUMENT):
            log(ENCODE, "r", {}).ended(code, 0.5, None)
        clock[0] += 1.0
        for code in codes[:2]:
            log(ENCODE, "r", {}).ended(code, 0.5, None)
    expected = [*codes[:3], Code.OK, Code.INVALID_ARGUMENT, *codes[:2]]
    assert [line["code"] for line in lines] == [code.name for code in expected]
    assert [line.get("left_out") for line in lines] == [None] * 5 + [7, None]


def test_a_refusal_for_a_deadline_is_shed_and_a_deadline_that_passed_is_not():
    refused = failure_of(DeadlineUnmeetable("too long", metadata={WAIT_ESTIMATE_KEY: 800}))
    passed = failure_of(DeadlinePassed("it passed"))
    assert lines_of(Code.DEADLINE_EXCEEDED, sample=0.0, failure=refused) == []
    assert len(lines_of(Code.DEADLINE_EXCEEDED, sample=0.0, failure=passed)) == 1
    log = AccessLog(1.0, 1)
    with capture_logs() as lines:
        for _ in range(3):
            log(ENCODE, "r", {}).ended(Code.DEADLINE_EXCEEDED, 0.5, refused)
    assert len(lines) <= 2  # a second may end in between


def test_the_line_says_why_an_rpc_was_refused_but_quotes_nothing():
    failure = failure_of(QueueFull("secret words", bound="queue_items", retry_after_s=1))
    (line,) = lines_of(Code.RESOURCE_EXHAUSTED, failure=failure)
    assert (line["reason"], line["bound"]) == ("QUEUE_FULL", "queue_items")
    assert "secret" not in str(line)


def test_stages_add_up_and_facts_show_on_the_line():
    line = AccessLog(1.0, 10)(ENCODE, "r", {})
    followers.set((line,))
    trace = RequestTrace("Encode", deadline=0.0)
    followers.set(())
    trace.add("inference", 0.25, batch_size=3)
    trace.add("inference", 0.5, batch_size=2)
    trace.note(token_count=24, model="small")
    with capture_logs() as lines:
        line.ended(Code.OK, 1.0, None)
    shown = {key: lines[0][key] for key in ("inference_s", "batch_size", "token_count", "model")}
    assert shown == {"inference_s": 0.75, "batch_size": 2, "token_count": 24, "model": "small"}


def test_no_text_makes_a_line_long(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    root = logging.getLogger()
    before, level = root.handlers, root.level
    listener = logs.configure("info")
    try:
        raise ValueError("y" * 100_000)
    except ValueError:
        structlog.get_logger("tessera.x").error("x" * 5_000, exc_info=True, note="z" * 5_000)
    listener.stop()
    root.handlers, root.level = before, level
    (line,) = out.getvalue().splitlines()
    assert len(line) < 13_000


def test_a_line_that_finds_no_room_is_counted(monkeypatch):
    monkeypatch.setattr(logs, "_MAX_WAITING_LINES", 1)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    listener = logs.configure("info")
    listener.stop()
    before = logs.dropped_lines()
    for _ in range(3):
        structlog.get_logger("tessera.x").info("hello")
    root.handlers, root.level = handlers, level
    assert logs.dropped_lines() - before >= 1
