"""What is refused before its message is read: the message here is none, so reading it would show."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from running_server import Running

from serving.admission import ServerState
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types

ENCODE = "/tessera.v1.TokenizerService/Encode"
NO_MESSAGE = b"\xff\xff\xff"


@pytest.fixture
def small(start_server) -> Running:
    """One picture per batch, two waiting."""
    return start_server(max_batch_size=1, max_queue_items=2)


@pytest.fixture
def channel(small: Running) -> Iterator[grpc.Channel]:
    with small.channel() as channel:
        yield channel


def encoding(png: bytes, coding: int) -> bytes:
    options = pb.EncodeOptions(coding=coding)
    return pb.EncodeRequest(image=types.Image(encoded=png), options=options).SerializeToString()


def fill(running: Running, channel: grpc.Channel, *messages: bytes) -> list[grpc.Future]:
    """Send these while the model is stuck: the first runs, the others wait."""
    running.tokenizer.gate.clear()
    calls = [channel.unary_unary(ENCODE).future(messages[0], timeout=20)]
    running.eventually(lambda: running.tokenizer.calls == [("encode", 1)])
    calls += [channel.unary_unary(ENCODE).future(message, timeout=20) for message in messages[1:]]
    running.eventually(lambda: running.sample("tessera_queue_items", op="encode") == len(messages) - 1)
    return calls


def code_of(channel: grpc.Channel, message: bytes, timeout_s: float = 5) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(ENCODE)(message, timeout=timeout_s)
    return caught.value.code()


def test_a_full_queue_refuses_unread_while_pictures_of_one_cost_come(small, channel, png):
    calls = fill(small, channel, *3 * [encoding(png, types.CODING_RANGE)])
    received = small.sample("grpc_server_msg_received_total")
    assert code_of(channel, NO_MESSAGE) is grpc.StatusCode.RESOURCE_EXHAUSTED
    small.expect(1, "tessera_rejected_requests_total", method="Encode", reason="queue_items")
    small.expect(1, "grpc_server_handled_total", grpc_method="Encode", grpc_code="ResourceExhausted")
    assert small.sample("grpc_server_msg_received_total") == received
    small.tokenizer.gate.set()
    assert all(call.result() for call in calls)
    assert code_of(channel, NO_MESSAGE) is grpc.StatusCode.INVALID_ARGUMENT


def test_where_pictures_of_another_cost_come_each_is_read_since_it_may_take_a_place(small, channel, png):
    dear = encoding(png, types.CODING_RANGE)
    fill(small, channel, encoding(png, types.CODING_FIXED))[0].cancel()
    small.tokenizer.gate.set()
    small.eventually(lambda: small.sample("tessera_in_flight_requests") == 0)
    small.tokenizer.calls.clear()
    _running, _waiting, newest = fill(small, channel, dear, dear, dear)
    assert code_of(channel, NO_MESSAGE) is grpc.StatusCode.INVALID_ARGUMENT
    other = channel.unary_unary(ENCODE).future(encoding(png, types.CODING_FIXED), timeout=20)
    assert newest.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    small.tokenizer.gate.set()
    assert other.code() is grpc.StatusCode.OK


def test_a_deadline_that_the_queue_cannot_meet_is_refused_unread(small, channel, png):
    message = encoding(png, types.CODING_RANGE)
    calls = fill(small, channel, message, message)
    (waiting,) = small.server.models.in_service[0].pipeline._encoder._queue.take_all()
    small.server.models.in_service[0].pipeline._encoder._costs.learn(waiting.kind, 10.0)
    small.server.models.in_service[0].pipeline._encoder._queue.append(waiting.kind, waiting)
    assert code_of(channel, NO_MESSAGE, timeout_s=5) is grpc.StatusCode.DEADLINE_EXCEEDED
    small.expect(1, "tessera_rejected_requests_total", method="Encode", reason="deadline_unmeetable")
    assert code_of(channel, NO_MESSAGE, timeout_s=60) is grpc.StatusCode.INVALID_ARGUMENT
    small.tokenizer.gate.set()
    assert all(call.result() for call in calls)


def test_a_server_that_goes_reads_nothing_more(small, channel):
    small.server.admission.state = ServerState.DRAINING
    assert code_of(channel, NO_MESSAGE) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("method", ["Encode", "EncodeStream"])
def test_an_rpc_without_its_message_is_told_so(small, channel, method):
    path = f"/tessera.v1.TokenizerService/{method}"
    with pytest.raises(grpc.RpcError, match="without its message") as caught:
        list(channel.stream_stream(path)(iter(()), timeout=5))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
