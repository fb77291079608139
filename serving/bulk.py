"""EncodeMany and DecodeMany: one stream of items, results in their order. Knows no pictures and no model.

    client ──read──> window ──turn──> the unary behaviour ──> window ──write, oldest first──> client
              │ full? nothing is read        │ fails? an error in its place

Three bounds make bulk work yield to everything else:
- A window per stream (`serving/window.py`). While it is full nothing is read, and gRPC's flow control stops
  the client; a client that does not read its results fills its own window and nobody else's.
- Turns, shared by all streams of a method, first come first served: enough to keep the model busy and no
  more, since deeper queues only add waiting and memory. An item's time starts with its turn, not with its
  reading: many streams make each other slower, and do not make each other's items late.
- Memory and model time that single requests leave (`serving/memory.py`, `serving/batcher.py`): an item waits
  for them, where a single request that finds none is refused.

An RPC-level failure (an item id that does not increase, a drain, a client that has gone silent, a key that
was revoked) stops the reading only: what was read before is finished and delivered, then the RPC ends with
that status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog

from serving.admission import Admission
from serving.authentication import check_key_again
from serving.config import ServingConfig
from serving.interceptor import DEADLINE_TOLERANCE_S
from serving.metrics.bulk import BulkMetrics
from serving.metrics.server import Metrics
from serving.received import Received
from serving.rich_status import rich_status
from serving.status import (
    CALLER_CODES,
    DeadlinePassed,
    Draining,
    InvalidRequest,
    StreamIdle,
    failure_of,
)
from serving.stream_writer import StreamWriter
from serving.trace import RequestTrace, followers
from serving.window import Item, Window

Context = Any  # grpc.aio.ServicerContext[bytes, Message]
Behaviour = Callable[[Received, RequestTrace], Awaitable[Any]]

# Copying this much takes some ten microseconds; a picture of 16 MiB would hold up the loop for milliseconds.
_SPLIT_INLINE_BYTES = 256 * 1024

_log = structlog.get_logger("tessera.rpc")


class BulkService:
    """What all bulk streams share. `serving/service.py` gives it the behaviours of Encode and Decode."""

    def __init__(self, config: ServingConfig, admission: Admission, metrics: Metrics) -> None:
        self.config = config
        self.admission = admission
        self.metrics = metrics
        self.bulk_metrics = BulkMetrics(metrics.registry)

    def handler(self, method: str, behaviour: Behaviour, reply: Any) -> Any:
        """The RPC `method`: each item is a request of `behaviour`, each result goes out in a `reply`."""
        # One batch in each instance of the model, one that waits for it, and one picture in each thread.
        batches = self.config.num_instances + 1
        turns = asyncio.Semaphore(batches * self.config.max_batch_size + self.config.effective_image_threads)

        async def call(requests: AsyncIterator[bytes], context: Context) -> None:
            with self.admission.rpc(method):
                await _Stream(self, method, behaviour, reply, turns, requests, context).run()

        return grpc.stream_stream_rpc_method_handler(call, None, reply.SerializeToString)


class _Stream:
    """One RPC."""

    def __init__(
        self,
        service: BulkService,
        method: str,
        behaviour: Behaviour,
        reply: Any,
        turns: asyncio.Semaphore,
        requests: AsyncIterator[bytes],
        context: Context,
    ) -> None:
        self._service = service
        self._method = method
        self._behaviour = behaviour
        self._reply = reply
        self._turns = turns
        self._requests = requests
        self._writer = StreamWriter(context)
        remaining_s = context.time_remaining()
        self._deadline = None if remaining_s is None else time.monotonic() + remaining_s
        self._window = Window(
            max_items=service.config.max_stream_window_items,
            max_size_bytes=service.config.max_request_size_bytes,
        )
        # No longer than the window; None after the last item.
        self._in_order: asyncio.Queue[Item | None] = asyncio.Queue()
        self._item_count = 0
        self._failed_count = 0
        self._last_id: int | None = None

    async def run(self) -> None:
        """Serve the stream to its end. Raises what it shall end with."""
        reading = asyncio.create_task(self._read_items())
        timer = asyncio.timeout(self._remaining_s())
        by_deadline = True
        try:
            async with timer:
                await self._write_results()
                await reading
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise DeadlinePassed("the deadline passed") from error
        except asyncio.CancelledError:
            remaining_s = self._remaining_s()
            by_deadline = remaining_s is not None and remaining_s <= DEADLINE_TOLERANCE_S
            raise
        finally:
            await self._clear(reading, by_deadline)

    async def _clear(self, reading: asyncio.Task[None], by_deadline: bool) -> None:
        """Whatever ended the stream, nothing of it stays in work."""
        left = list(self._window)
        for item in left:
            if item.is_late:
                continue
            place = item.trace.place if item.trace else "queued"
            self._service.metrics.abandoned(self._method, by_deadline=by_deadline, place=place)
        self._service.bulk_metrics.items_closed(self._method, len(left))
        self._service.bulk_metrics.stream_ended(self._method, self._item_count)
        for follower in followers.get():
            follower.note(item_count=self._item_count, failed_item_count=self._failed_count)
        await _end(reading, *(item.result for item in left if item.result))

    # Reading ---------------------------------------------------------------------------------------------

    async def _read_items(self) -> None:
        """Begin one item after another, until the client has no more or one of them ends the stream."""
        draining = asyncio.create_task(self._service.admission.draining.wait())
        try:
            while (raw := await self._next_message(draining)) is not None:
                check_key_again()
                await self._begin(raw)
                del raw  # or it would stay until the next one comes
        finally:
            self._in_order.put_nowait(None)
            await _end(draining)

    async def _next_message(self, draining: asyncio.Task[Any]) -> bytes | None:
        """The next message, None after the last. Raises Draining or StreamIdle instead of waiting longer."""
        await self._window.wait_for_room()
        if draining.done():
            raise _draining()
        message = asyncio.create_task(_receive(self._requests))
        try:
            while True:
                patience_s = self._service.config.stream_idle_timeout_s - self._window.empty_s
                if patience_s <= 0:
                    raise StreamIdle("no item came, and none was in work")
                await asyncio.wait(
                    (message, draining), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
                if message.done():
                    return message.result()
                if draining.done():
                    raise _draining()
        finally:
            await _end(message)

    async def _begin(self, raw: bytes) -> None:
        """Check the place of an item in the stream and let its work begin. Raises InvalidRequest."""
        if len(raw) <= _SPLIT_INLINE_BYTES:
            item_id, request = split_item(raw)
        else:
            item_id, request = await asyncio.to_thread(split_item, raw)
        if self._last_id is not None and item_id <= self._last_id:
            raise InvalidRequest(
                f"item ids must increase: {item_id} came after {self._last_id}",
                reason="ITEM_ID_NOT_INCREASING",
                field="item_id",
            )
        self._last_id = item_id
        item = Item(item_id, Received(request), len(request))
        item.result = asyncio.create_task(self._work(item))
        self._window.add(item)
        self._in_order.put_nowait(item)
        self._item_count += 1
        self._service.bulk_metrics.item_opened(self._method)

    # Working ---------------------------------------------------------------------------------------------

    async def _work(self, item: Item) -> Any:
        """The reply for one item: its result, or what it failed with."""
        await self._window.wait_to_start(item)
        async with self._turns:
            limit_s = self._remaining_s()
            if limit_s is None:
                limit_s = self._service.config.default_deadline_s
            # Nobody follows an item: a stream may bring millions, and each would leave spans of its own.
            deadline = time.monotonic() + limit_s
            item.trace = RequestTrace(self._method, deadline, is_bulk=True, followers=())
            # The deadline of the RPC, where there is one, ends the whole stream and not one item of it.
            timer = asyncio.timeout(limit_s if self._deadline is None else None)
            try:
                async with timer:
                    reply = self._reply(
                        item_id=item.item_id, response=await self._behaviour(item.request, item.trace)
                    )
            except Exception as error:
                late = DeadlinePassed("the time for one item passed")
                reply = self._failed(item, item.trace, late if timer.expired() else error)
        item.trace.place = "streaming"
        self._window.settle(item, reply.ByteSize())
        return reply

    def _failed(self, item: Item, trace: RequestTrace, error: Exception) -> Any:
        """The error in the place of a result, with all that the unary RPC would have said."""
        failure = failure_of(error)
        self._failed_count += 1
        self._service.bulk_metrics.item_failed(self._method, failure.reason)
        if failure.code in CALLER_CODES:
            self._service.metrics.invalid(self._method, failure.reason)
        if isinstance(error, DeadlinePassed):
            item.is_late = True
            self._service.metrics.abandoned(self._method, by_deadline=True, place=trace.place)
        if not failure.is_expected:
            _log.error("item failed", error_id=failure.metadata.get("error_id"), exc_info=error)
        request_id = structlog.contextvars.get_contextvars().get("request_id", "")
        return self._reply(item_id=item.item_id, error=rich_status(failure, request_id))

    # Writing ---------------------------------------------------------------------------------------------

    async def _write_results(self) -> None:
        """Write the results in the order of their items, each as soon as all before it are written."""
        while (item := await self._in_order.get()) is not None:
            assert item.result is not None  # _begin sets it
            await self._write(await item.result)
            self._window.remove(item)
            self._service.bulk_metrics.items_closed(self._method)

    async def _write(self, reply: Any) -> None:
        """Raises StreamIdle if the client does not make room for it."""
        timer = asyncio.timeout(self._service.config.stream_idle_timeout_s)
        try:
            async with timer:
                await self._writer.write(reply)
        except grpc.aio.InternalError as error:
            # The client left while this waited for it; gRPC's own cancel of the RPC comes a little later.
            raise asyncio.CancelledError from error
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise StreamIdle("the results are not read") from error

    def _remaining_s(self) -> float | None:
        """Until the deadline of the RPC; None without one."""
        return None if self._deadline is None else self._deadline - time.monotonic()


def split_item(raw: bytes) -> tuple[int, bytes]:
    """The id and the still unparsed request of an EncodeManyRequest or DecodeManyRequest.

    So the request itself is read as the unary RPC reads it, and bytes that are no request are an error of
    their item. Fields that came in parts are joined, which is how protobuf defines it. Raises InvalidRequest.

    >>> split_item(bytes([0x08, 7, 0x12, 2]) + b"ab")
    (7, b'ab')
    """
    try:
        return _split(raw)
    except IndexError as error:  # the message ends inside a field
        raise InvalidRequest("these bytes are no item") from error


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf
# An item has two fields; more are parts of them, or of a later version.
_MAX_FIELDS = 64


def _split(raw: bytes) -> tuple[int, bytes]:
    """By hand: protobuf's own unknown fields make an object of each, of which 16 MiB hold millions."""
    parts: list[bytes] = []
    item_id = place = 0
    for _ in range(_MAX_FIELDS):
        if place == len(raw):
            return item_id, b"".join(parts)
        tag, place = _varint(raw, place)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, place = _varint(raw, place)
            item_id = _signed(value) if number == 1 else item_id
        elif wire_type == _BYTES:
            size, start = _varint(raw, place)
            place = start + size
            if number == 2:
                parts.append(raw[start:place])
        elif wire_type in (_FIXED64, _FIXED32):
            place += 8 if wire_type == _FIXED64 else 4
        else:
            raise InvalidRequest("these bytes are no item")
        if number == 0 or place > len(raw):
            raise InvalidRequest("these bytes are no item")
    raise InvalidRequest(f"an item has at most {_MAX_FIELDS} fields")


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """A number and the place behind it. Raises IndexError, and InvalidRequest above ten bytes."""
    value = 0
    for index in range(10):
        byte = raw[place + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & (2**64 - 1), place + index + 1
    raise InvalidRequest("these bytes are no item")


def _signed(number: int) -> int:
    """An int64 as it is in the wire's two's complement."""
    return number - 2**64 if number >= 2**63 else number


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel these tasks and see that they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _receive(requests: AsyncIterator[bytes]) -> bytes | None:
    return await anext(requests, None)


def _draining() -> Draining:
    return Draining("this server is shutting down", retry_after_s=0.0)
