"""Calls of both clients, sync and asyncio: what arrives, what fails and how, what is repeated."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from both_clients import Blocking
from fake_service import Failure, FakeServer, eventually, stream_of
from running_server import Running

from serving.client import AsyncTokenizerClient, ServiceError, TokenizerClient
from serving.client.errors import (
    Cancelled,
    DeadlineExceeded,
    FieldViolation,
    InvalidRequest,
    NotFound,
    Overloaded,
    RequestTooLarge,
    ResponseTooLarge,
    Unavailable,
)
from tokenizer.budget import TokenBudget
from tokenizer.coding import Coding
from tokenizer.errors import InvalidBudget, InvalidRealism

PICTURE = bytes(range(64))
# The gRPC of Python logs nothing where it retries; the count is what the server saw.
MOST_ATTEMPTS = 4


def test_both_clients_do_all_that_the_server_can(running: Running, connect, png):
    with connect(running.server.target) as client:
        client.wait_until_serving(10)
        assert client.is_serving() and client.is_serving("tessera.v1.ModelService")
        stream = client.encode(png, TokenBudget(max_tokens=200), coding=Coding.FIXED, model="fake@1")
        assert (stream.length, stream.coding, stream.curve is not None) == (200, Coding.FIXED, True)
        assert [one.length for one in client.encode_stream(png, TokenBudget(max_tokens=40))] == [16, 32, 40]
        assert client.decode(stream, model="fake")[:4] == b"\x89PNG"
        assert [preview.last for preview in client.decode_stream(stream, [24])] == [False, True]
        assert client.truncate(stream, max_tokens=24) == stream.prefix(24)
        assert client.truncate(stream, max_tokens=24).curve == stream.curve
        assert client.truncate(stream.to_bytes(), max_bytes=64) == stream.to_bytes()[:64]
        (model,) = client.models()
        assert client.model() == client.model("fake") == client.model("fake@1") == model
        assert model.is_default and model.codings == (Coding.RANGE, Coding.FIXED)
        info = client.server_info()
        assert info.limits.max_image_area_px == running.server.config.max_image_area_px
        assert info.limits.default_deadline_s == 30 and info.input_formats == ("png", "jpeg", "webp")


def test_an_unknown_model_is_not_found_wherever_it_is_named(running: Running, connect, png):
    with connect(running.server.target) as client:
        stream = client.encode(png, TokenBudget(max_tokens=8))
        for call in (
            lambda: client.encode(png, model="nobody"),
            lambda: list(client.encode_stream(png, model="nobody")),
            lambda: client.decode(stream, model="nobody"),
            lambda: list(client.decode_stream(stream, [4], model="nobody")),
            lambda: client.model("nobody"),
        ):
            with pytest.raises(NotFound) as caught:
                call()
            assert caught.value.reason == "MODEL_NOT_FOUND"


def test_a_smaller_canvas_makes_fewer_tokens(running: Running, connect, png):
    with connect(running.server.target) as client:
        assert client.encode(png, canvas_area_px=16_384).length < client.encode(png).length


def test_arguments_that_make_no_request_are_refused_before_anything_is_sent(fake, connect):
    client = connect(fake.target)
    with pytest.raises(ValueError, match="format must be one of"):
        client.decode(stream_of(PICTURE), "gif")
    with pytest.raises(InvalidRealism):
        client.decode(stream_of(PICTURE), realism=2.0)
    with pytest.raises(InvalidBudget):
        client.truncate(stream_of(PICTURE))
    with pytest.raises(InvalidBudget):
        client.encode(PICTURE, TokenBudget(min_psnr_db=20.0, mode="exact"))
    with pytest.raises(ValueError, match="window"):
        list(client.encode_many([PICTURE], window=0))
    with pytest.raises(ValueError, match="timeout_s"):
        connect(fake.target, timeout_s=0)
    assert fake.service.calls == 1  # the window of the server


def test_an_error_says_code_reason_fields_wait_and_request(fake, connect):
    with pytest.raises(InvalidRequest) as caught:
        connect(fake.target).encode(b"bad")
    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_CORRUPT")
    assert error.field_violations == (FieldViolation("image.source", "no picture"),)
    assert (error.retry_after_s, error.request_id, error.message) == (0.5, "request-1", "no picture")


def test_a_large_request_is_repeated_like_a_small_one(fake, connect):
    client = connect(fake.target)
    for size_bytes in (64, 5 * 2**20):
        fake.service.calls = 0
        fake.service.failures = [Failure(), Failure()]
        assert client.encode(bytes(size_bytes)).length == 64
        assert fake.service.calls == 3


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED],
)
def test_repeating_ends_after_four_attempts(fake, connect, code):
    fake.service.failures = [Failure(code)] * 10
    with pytest.raises((Unavailable, Overloaded, Cancelled)) as caught:
        connect(fake.target).encode(PICTURE)
    assert caught.value.code is code
    assert fake.service.calls == MOST_ATTEMPTS


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED]
)
def test_what_repeating_would_not_help_is_not_repeated(fake, connect, code):
    fake.service.failures = [Failure(code)] * 2
    with pytest.raises(ServiceError) as caught:
        connect(fake.target).encode(PICTURE)
    assert caught.value.code is code
    assert fake.service.calls == 1


def test_a_client_waits_as_long_as_the_server_says(fake, connect):
    fake.service.failures = [Failure(pushback_ms=300), Failure(pushback_ms=300)]
    started_s = time.monotonic()
    assert connect(fake.target).encode(PICTURE).length == 64
    # The policy alone would have waited at most 0.15 s.
    assert time.monotonic() - started_s > 0.55
    assert fake.service.calls == 3


def test_a_client_that_is_told_to_stay_away_stays_away(fake, connect):
    fake.service.failures = [Failure(pushback_ms=-1)] * 2
    with pytest.raises(Unavailable):
        connect(fake.target).encode(PICTURE)
    assert fake.service.calls == 1


def test_a_client_stops_repeating_when_most_calls_fail(fake, connect):
    fake.service.failures = [Failure()] * 100
    client = connect(fake.target)
    for _ in range(6):
        with pytest.raises(Unavailable):
            client.encode(PICTURE)
    # 10 tokens, one per failure, and no repeating at half of them or fewer.
    assert fake.service.calls <= 6 + 5


def test_a_call_may_have_a_deadline_of_its_own(fake, connect):
    client = connect(fake.target, timeout_s=30)
    fake.service.gate.clear()
    with pytest.raises(DeadlineExceeded):
        client.encode(PICTURE, timeout_s=0.2)
    with pytest.raises(DeadlineExceeded):
        list(client.encode_stream(PICTURE, timeout_s=0.2))


def test_a_request_above_what_the_server_told_is_not_sent(fake, connect):
    fake.service.max_request_size_bytes = 1000
    client = connect(fake.target)
    client.encode(bytes(2000))
    client.server_info()
    calls = fake.service.calls
    with pytest.raises(RequestTooLarge, match="1000 are allowed"):
        client.encode(bytes(2000))
    assert fake.service.calls == calls


def test_the_servers_limits_are_asked_for_once(fake, connect):
    client = connect(fake.target)
    assert client.server_info() is client.server_info()
    assert fake.service.calls == 1
    client.server_info(refresh=True)
    assert fake.service.calls == 2


def test_messages_that_grpc_refuses_say_which_side_did(connect):
    server = FakeServer(max_receive_size_bytes=1000)
    server.start()
    with pytest.raises(RequestTooLarge) as caught:
        connect(server.target).encode(bytes(2000))
    assert caught.value.reason == "REQUEST_TOO_LARGE"
    with pytest.raises(ResponseTooLarge):
        connect(server.target, max_response_size_bytes=50).encode(PICTURE)
    server.stop()


def test_a_stream_that_breaks_off_is_an_error_or_the_picture_so_far(fake, connect):
    client = connect(fake.target)
    fake.service.failures = [Failure()]
    with pytest.raises(Unavailable):
        list(client.encode_stream(PICTURE))
    fake.service.failures = [Failure()]
    prefixes = list(client.encode_stream(PICTURE, allow_partial=True))
    assert [prefix.tokens for prefix in prefixes] == [PICTURE[:8]]


def test_a_partial_stream_still_needs_one_picture(fake, connect):
    client = connect("127.0.0.1:1", timeout_s=3)
    with pytest.raises(Unavailable):
        list(client.encode_stream(PICTURE, allow_partial=True))


def test_leaving_a_stream_stops_the_work_of_the_server(fake, connect):
    fake.service.gate.clear()
    stream = connect(fake.target).encode_stream(PICTURE)
    assert next(stream).tokens == PICTURE[:8]
    assert not fake.service.cancelled.is_set()
    stream.close()
    assert fake.service.cancelled.wait(5)


def test_a_client_goes_on_when_its_server_comes_back_on_the_same_port(fake, connect):
    client = connect(fake.target)
    assert client.encode(PICTURE).length == 64
    fake.stop()
    with pytest.raises(Unavailable):
        client.encode(PICTURE)
    fake.start()
    client.wait_until_serving(10)
    assert client.encode(PICTURE).length == 64


def test_waiting_for_a_server_ends_when_it_serves_or_the_time_is_up(fake, connect):
    client = connect(fake.target)
    fake.set_serving(False)
    assert not client.is_serving()
    with pytest.raises(DeadlineExceeded, match=r"does not serve after 1(\.0)? s: NOT_SERVING"):
        client.wait_until_serving(1.0)
    with pytest.raises(DeadlineExceeded, match=r"does not serve after 0\.2 s"):
        connect("127.0.0.1:1").wait_until_serving(0.2)
    fake.set_serving(True)
    client.wait_until_serving(5)


def test_the_key_goes_with_every_call_and_is_never_shown(fake, connect):
    client = connect(fake.target, key="secret-1")
    client.encode(PICTURE)
    client.server_info()
    assert [found["authorization"] for found in fake.service.metadata] == ["Bearer secret-1"] * 2
    assert "secret" not in repr(client) and fake.target in repr(client)
    connect(fake.target).encode(PICTURE)
    assert "authorization" not in fake.service.metadata[-1]


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(connect, key):
    with pytest.raises(ValueError) as caught:
        connect("127.0.0.1:1", key=key)
    assert key == "" or key not in str(caught.value)


def test_a_client_does_not_outlive_a_fork(fake, connect, monkeypatch):
    client = connect(fake.target)
    monkeypatch.setattr("serving.client.session.os.getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="fork"):
        client.encode(PICTURE)


def test_cancelling_a_task_cancels_the_call_on_the_server(fake, server_loop):
    with Blocking(server_loop, fake.target) as blocking:
        fake.service.gate.clear()

        async def leave() -> None:
            async def read() -> None:
                async for _ in blocking.client.encode_stream(PICTURE):
                    pass

            task = asyncio.create_task(read())
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        blocking.run(leave())
        eventually(fake.service.cancelled.is_set)


def test_a_call_that_its_own_task_cancels_is_not_repeated(fake, server_loop):
    with Blocking(server_loop, fake.target) as blocking:
        fake.service.gate.clear()

        async def leave() -> None:
            task = asyncio.create_task(blocking.client.encode(PICTURE))
            while not fake.service.calls:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The policy waits for at most 0.05 s before the second attempt.
            await asyncio.sleep(0.3)

        blocking.run(leave())
        assert fake.service.calls == 1


def test_an_async_client_belongs_to_the_loop_it_was_made_in(fake, server_loop):
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncTokenizerClient(fake.target)
    with Blocking(server_loop, fake.target) as blocking, pytest.raises(RuntimeError, match="belongs to"):
        asyncio.run(blocking.client.encode(PICTURE))


def test_the_async_client_has_the_methods_arguments_and_texts_of_the_sync_one():
    import inspect

    names = {name for name in vars(TokenizerClient) if not name.startswith("_")}
    assert names == {name for name in vars(AsyncTokenizerClient) if not name.startswith("_")}
    for name in names:
        sync, aio = getattr(TokenizerClient, name), getattr(AsyncTokenizerClient, name)
        assert list(inspect.signature(sync).parameters) == list(inspect.signature(aio).parameters)
        assert inspect.getdoc(aio) == inspect.getdoc(sync) is not None
