"""Raw calls of a load: bytes out, bytes in. Parses bulk answers only, to take little processor time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from serving import limits
from serving.client.channel import channel_options
from serving.client.errors import ServiceError, item_error, service_error
from serving.client.many import ended_early, no_answer
from serving.client_credentials import ANYBODY, Access, Caller
from serving.load.outcome import OK
from serving.load.plan import BULK_KINDS, WINDOW_ITEMS, RpcKind
from serving.load.requests import item_failure, numbered, paths

_STREAMS = (RpcKind.ENCODE_STREAM, RpcKind.DECODE_STREAM)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended; `first_at` is on the clock of `time.monotonic`."""

    code: str
    reason: str = ""
    message: str = ""
    first_at: float | None = None


class Connections:
    """Open channels of which each has a connection of its own. Needs a running event loop."""

    def __init__(self, targets: Sequence[str], *, retries: bool, caller: Caller = ANYBODY) -> None:
        accesses = [caller.access_to(target) for target in targets]
        self._channels = [
            access.aio_channel(target, _options(retries))
            for access, target in zip(accesses, targets, strict=True)
        ]
        self._methods = [
            _methods(channel, access) for channel, access in zip(self._channels, accesses, strict=True)
        ]

    async def close(self) -> None:
        """Give up the connections; calls in work are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def send(self, client: int, kind: RpcKind, request: bytes, deadline_s: float) -> Answer:
        """One call of this client, over the connection that it has; never raises for a failed call."""
        method = self._method(client, kind)
        first_at: float | None = None
        try:
            if kind in _STREAMS:
                async for _ in method(request, timeout=deadline_s):
                    first_at = first_at or time.monotonic()
            else:
                await method(request, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            return _failed(service_error(error), first_at)
        return Answer(OK, first_at=first_at)

    async def send_items(
        self, client: int, kind: RpcKind, items: Iterator[bytes], deadline_s: float
    ) -> AsyncIterator[tuple[float, Answer]]:
        """One stream of this client; yields when each item was sent, and how it ended.

        An item that waits longer than the deadline ends the stream. Items that the end of a stream leaves
        unanswered share its status.
        """
        window = _Window(items)
        call = self._method(client, kind)(window.messages())
        try:
            while (reply := await _read(call, window.left_s(deadline_s))) is not grpc.aio.EOF:
                sent_at = window.answered()
                failure = item_failure(kind, reply)
                yield sent_at, Answer(OK) if failure is None else _failed(item_error(failure))
            failed = _failed(ended_early())
        except TimeoutError:
            failed = _failed(no_answer(deadline_s))
        except grpc.aio.AioRpcError as error:
            failed = _failed(service_error(error))
        finally:
            window.close()
            call.cancel()
        for sent_at in window.unanswered:
            yield sent_at, failed

    def _method(self, client: int, kind: RpcKind) -> Any:
        return self._methods[client % len(self._methods)][kind]


class _Window:
    """Items of one stream on their way: sends another whenever one is answered."""

    def __init__(self, items: Iterator[bytes]) -> None:
        self._items = items
        self._room = asyncio.Semaphore(WINDOW_ITEMS)
        self._is_closed = False
        self.unanswered: deque[float] = deque()
        """When they were sent."""

    async def messages(self) -> AsyncIterator[bytes]:
        """For gRPC to send."""
        for item_id in itertools.count():
            await self._room.acquire()
            item = None if self._is_closed else next(self._items, None)
            if item is None:
                return
            self.unanswered.append(time.monotonic())
            yield numbered(item_id, item)

    def answered(self) -> float:
        """When the oldest item was sent, which is answered now."""
        self._room.release()
        return self.unanswered.popleft()

    def left_s(self, deadline_s: float) -> float:
        """How long the oldest item may still wait."""
        if not self.unanswered:
            return deadline_s
        return max(0.0, self.unanswered[0] + deadline_s - time.monotonic())

    def close(self) -> None:
        """Send no more: gRPC does not end the generator of a stream that the server ended."""
        self._is_closed = True
        self._room.release()


async def _read(call: Any, timeout_s: float) -> Any:
    return await asyncio.wait_for(call.read(), timeout_s)


def _failed(error: ServiceError, first_at: float | None = None) -> Answer:
    return Answer(error.code.name, error.reason, error.message, first_at)


def _methods(channel: grpc.aio.Channel, access: Access) -> dict[RpcKind, Any]:
    return {
        kind: partial(_shape(channel, kind)(path), metadata=access.metadata) for kind, path in paths().items()
    }


def _shape(channel: grpc.aio.Channel, kind: RpcKind) -> Any:
    if kind in BULK_KINDS:
        return channel.stream_stream
    return channel.unary_stream if kind in _STREAMS else channel.unary_unary


def _options(retries: bool) -> list[tuple[str, Any]]:
    options = channel_options(limits.MAX_REQUEST_SIZE_BYTES, limits.MAX_RESPONSE_SIZE_BYTES)
    if not retries:
        plain = ("grpc.enable_retries", "grpc.service_config")
        options = [option for option in options if option[0] not in plain] + [("grpc.enable_retries", 0)]
    # Else channels to one address share one connection, and with it its flow control.
    return [*options, ("grpc.use_local_subchannel_pool", 1)]
