"""Bulk calls of both clients: order, errors in place, how far they read ahead, what survives a break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import numpy as np
import pytest
from both_clients import Blocking
from fake_service import WINDOW, Failure, eventually, stream_of

from serving.client import TokenizerClient, many
from serving.client.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    RequestTooLarge,
    ServerFault,
    Unauthenticated,
    Unavailable,
)
from serving.status import Draining
from tokenizer.sequence import TokenSequence


def pictures(count: int) -> list[bytes]:
    return [bytes([number % 256]) * 64 for number in range(count)]


def streams(count: int) -> list[tuple[int, TokenSequence]]:
    return [(number, stream_of(picture)) for number, picture in enumerate(pictures(count))]


class Source:
    """Pictures that count how many were taken, and whether anybody is still taking."""

    def __init__(self, count: int) -> None:
        self.pictures, self.taken = pictures(count), 0

    def __iter__(self) -> Iterator[bytes]:
        for picture in self.pictures:
            self.taken += 1
            yield picture


@pytest.fixture
def quick_resumes(monkeypatch) -> None:
    monkeypatch.setattr(many, "_FIRST_PAUSE_S", 0.01)


def test_results_come_in_order_with_index_or_key(fake, connect):
    client = connect(fake.target)
    assert list(client.encode_many(pictures(20))) == streams(20)
    keyed = [(f"{number}.png", picture) for number, picture in enumerate(pictures(20))]
    assert [key for key, _ in client.encode_many(keyed)] == [key for key, _ in keyed]
    assert list(client.encode_many([])) == []


def test_decode_many_gives_pictures_back(fake, connect):
    sources = [stream if number % 2 else stream.to_bytes() for number, stream in streams(10)]
    assert list(connect(fake.target).decode_many(sources)) == list(enumerate(pictures(10)))


def test_a_bad_item_is_a_typed_error_in_its_place_wherever_it_is_found(fake, connect):
    client = connect(fake.target, max_request_size_bytes=10_000)
    wrong_shape = np.zeros((4, 4), np.uint8)
    sources = [b"fine", b"bad", wrong_shape, bytes(20_000), b"fine"]
    first, *bad, last = [result for _, result in client.encode_many(sources)]
    assert first == last == stream_of(b"fine")
    assert [type(error) for error in bad] == [InvalidRequest, InvalidRequest, RequestTooLarge]
    assert [error.reason for error in bad] == ["IMAGE_CORRUPT", "REQUEST_MALFORMED", "REQUEST_TOO_LARGE"]
    assert bad[0].field_violations[0].field == "image.source"
    assert (bad[0].request_id, bad[0].retry_after_s) == ("request-1", 0.5)
    assert fake.service.streams == [[0, 1, 4]]


def test_no_more_than_the_window_is_read_ahead(fake, connect):
    source = Source(50)
    results = connect(fake.target).encode_many(source)
    for answered in range(1, 30):
        next(results)
        assert source.taken <= answered + WINDOW
    results.close()
    assert source.taken <= 29 + WINDOW


def test_a_server_that_answers_nothing_gets_one_window_and_no_more(fake, connect):
    fake.service.gate.clear()
    source = Source(50)
    results = connect(fake.target).encode_many(source, timeout_s=0.5)
    with pytest.raises(DeadlineExceeded, match=r"no answer for 0\.5 s"):
        next(results)
    assert source.taken == WINDOW
    assert fake.service.cancelled.wait(5)


def test_a_smaller_window_is_kept_and_a_larger_one_is_not(fake, connect):
    fake.service.gate.clear()
    for asked, kept in ((1, 1), (100, WINDOW)):
        source = Source(50)
        with pytest.raises(DeadlineExceeded):
            next(connect(fake.target).encode_many(source, window=asked, timeout_s=0.3))
        assert source.taken == kept


@pytest.mark.usefixtures("quick_resumes")
def test_a_broken_stream_is_resumed_without_gap_or_duplicate(fake, connect):
    fake.service.breaks = [7, 0, 3]
    assert list(connect(fake.target).encode_many(pictures(30))) == streams(30)
    # No more than one window is sent again, and nothing that the caller already has.
    first = [received[0] for received in fake.service.streams if received]
    assert first == sorted(first) and 7 - WINDOW <= first[1] <= 7


@pytest.mark.usefixtures("quick_resumes")
def test_an_item_that_a_leaving_server_refuses_is_sent_to_the_next(fake, connect):
    fake.service.breaks = [Draining("shutting down")]
    assert list(connect(fake.target).encode_many(pictures(6))) == streams(6)
    assert len(fake.service.streams) == 2


@pytest.mark.usefixtures("quick_resumes")
def test_a_stream_that_meets_a_server_in_its_last_instant_is_opened_again(fake, connect):
    fake.service.failures = [Failure(grpc.StatusCode.CANCELLED)] * 2
    assert list(connect(fake.target).encode_many(pictures(6))) == streams(6)


@pytest.mark.usefixtures("quick_resumes")
def test_a_client_that_is_closed_ends_its_bulk_calls(fake):
    client = TokenizerClient(fake.target)
    results = client.encode_many(Source(50))
    next(results)
    fake.service.gate.clear()
    client.close()
    with pytest.raises(Cancelled):
        list(results)


@pytest.mark.usefixtures("quick_resumes")
def test_resuming_ends_when_it_brings_nothing(fake, connect):
    fake.service.breaks = [2, *[0] * 50]
    seen: list[tuple[int, TokenSequence]] = []
    with pytest.raises(Unavailable):
        seen.extend(connect(fake.target).encode_many(pictures(10), max_resumes=3))
    assert len(seen) <= 2
    assert seen == streams(len(seen))
    assert sum(bool(received) for received in fake.service.streams) <= 1 + 3, "gRPC repeats nothing by itself"


def test_a_restart_of_the_server_in_the_middle_is_not_seen(fake, connect):
    results = connect(fake.target).encode_many(pictures(40))
    seen = [next(results) for _ in range(10)]
    fake.stop()
    fake.start()
    assert seen + list(results) == streams(40)


def test_a_break_while_nothing_is_in_work_is_not_seen(fake, connect):
    results = connect(fake.target).encode_many(pictures(6), window=1)
    seen = [next(results), next(results)]
    for _ in range(2):
        fake.stop()
        fake.start()
        seen.append(next(results))
    assert seen + list(results) == streams(6)


def test_leaving_early_stops_the_work_of_the_server(fake, connect):
    results = connect(fake.target).encode_many(Source(1000))
    next(results)
    assert not fake.service.cancelled.is_set()
    results.close()
    assert fake.service.cancelled.wait(5)


def test_answers_out_of_order_are_a_fault_and_never_a_wrong_result(fake, connect):
    fake.service.forgets = True
    with pytest.raises(ServerFault, match="answer to item 1, awaited 0"):
        list(connect(fake.target).encode_many(pictures(3)))


def test_an_error_of_the_source_reaches_the_caller_and_ends_the_stream(fake, connect):
    def sources() -> Iterator[bytes]:
        yield b"fine"
        raise Unavailable("from the source", code=grpc.StatusCode.UNAVAILABLE)

    results = connect(fake.target).encode_many(sources(), window=1)
    assert next(results) == (0, stream_of(b"fine"))
    with pytest.raises(Unavailable, match="from the source"):
        next(results)
    assert fake.service.cancelled.wait(5)
    assert len(fake.service.streams) == 1


@pytest.mark.parametrize("size_bytes", [64, 500_000])
def test_a_stream_that_is_refused_ends_with_the_status_of_the_server(fake, connect, size_bytes):
    fake.service.failures = [Failure(grpc.StatusCode.UNAUTHENTICATED)] * 20
    with pytest.raises(Unauthenticated, match="refused"):
        list(connect(fake.target).encode_many([bytes(size_bytes)] * 10))
    # One more where grpc.aio lost the status of the first.
    assert len(fake.service.streams) <= 2


def test_a_server_that_nobody_finds_is_told_before_a_picture_is_read(connect):
    source = Source(5)
    with pytest.raises(Unavailable):
        list(connect("127.0.0.1:1").encode_many(source))
    assert source.taken == 0


def test_the_key_goes_with_bulk_calls(fake, connect):
    client = connect(fake.target, key="secret-1")
    list(client.encode_many(pictures(2)))
    assert fake.service.many_metadata["authorization"] == "Bearer secret-1"


def test_decode_many_may_be_fed_by_encode_many(fake, server_loop):
    source = Source(50)
    with TokenizerClient(fake.target) as client:
        decoded = client.decode_many(stream for _, stream in client.encode_many(source))
        assert next(decoded) == (0, source.pictures[0])
        assert source.taken <= 2 * WINDOW + 2
        decoded.close()
    with Blocking(server_loop, fake.target) as blocking:

        async def run() -> list[tuple[int, bytes]]:
            encoded = blocking.client.encode_many(pictures(50))
            decoded = blocking.client.decode_many(stream async for _, stream in encoded)
            return [result async for result in decoded]

        assert blocking.run(run()) == list(enumerate(pictures(50)))


def test_an_async_source_is_read_no_further_and_results_do_not_wait_for_it(fake, server_loop):
    with Blocking(server_loop, fake.target) as blocking:
        allowed, taken = asyncio.Event(), []

        async def slow() -> AsyncIterator[bytes]:
            for number, picture in enumerate(pictures(3)):
                if number == 2:
                    await allowed.wait()
                taken.append(number)
                yield picture

        async def run() -> list[tuple[int, TokenSequence]]:
            results = blocking.client.encode_many(slow())
            # The third picture is not there yet; the first two do not wait for it.
            first = [await anext(results), await anext(results)]
            assert taken == [0, 1]
            allowed.set()
            return first + [result async for result in results]

        assert blocking.run(run()) == streams(3)


def test_nothing_is_left_behind_by_a_bulk_call_that_is_left(fake, connect):
    import threading

    client = connect(fake.target)
    for _ in range(5):
        results = client.encode_many(Source(100))
        next(results)
        results.close()
    eventually(lambda: not any(thread.name == "tessera-many" for thread in threading.enumerate()))
