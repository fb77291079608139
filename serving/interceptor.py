"""What surrounds every RPC, health and reflection included: request id, metrics, errors.

Outermost, so that exactly one `started` and one `handled` is counted per RPC whatever happens inside, and no
exception text of ours leaves the process. Messages are parsed inside this wrapper: gRPC would otherwise
answer bytes that are no message with UNKNOWN and the name of a Python class.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError

from serving import logs, trace
from serving.authentication import Authenticator
from serving.door import Door
from serving.limits import REQUEST_ID_KEY
from serving.metrics.server import Metrics, Rpc
from serving.metrics.sets import UNKNOWN_RPC
from serving.observers import RpcFollower, RpcObserver
from serving.rich_status import trailing_metadata
from serving.status import (
    CALLER_CODES,
    Failure,
    InvalidRequest,
    StatusError,
    Unsupported,
    failure_of,
)

T = TypeVar("T")
Context = Any  # grpc.aio.ServicerContext[Request, Response], whose type parameters differ per RPC

# A client whose deadline passes also resets the stream, and that can reach us a little before our own timer.
DEADLINE_TOLERANCE_S = 0.05

# Sending a status takes milliseconds, unless the client has stopped reading.
_LAST_WORD_S = 1.0

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_log = structlog.get_logger("tessera.rpc")


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler; `rpcs` maps `/service/Method` to its metric labels, `observers` see each RPC.

    RPCs that the authenticator or the door turn away end before their message is read. So that they can,
    those of a single request are served as if requests were streamed, which is the same on the wire.
    """

    def __init__(
        self,
        metrics: Metrics,
        rpcs: Mapping[str, Rpc],
        authenticator: Authenticator | None = None,
        observers: tuple[RpcObserver, ...] = (),
        door: Door | None = None,
    ) -> None:
        self._metrics = metrics
        self._rpcs = rpcs
        self._authenticator = authenticator
        self._door = door
        self._observers = observers
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """The wrapped handler, built once per method; unknown methods get one that says so."""
        method = handler_call_details.method
        if self._authenticator is not None:
            try:
                self._authenticator.admit(method, handler_call_details.invocation_metadata)
            except StatusError as refusal:
                return self._refuse(self._rpcs.get(method, UNKNOWN_RPC), refusal)
        if method in self._wrapped:
            return self._wrapped[method]
        handler = await continuation(handler_call_details)
        if handler is None or method not in self._rpcs:
            return self._refuse(UNKNOWN_RPC, Unsupported("no such method"))
        self._wrapped[method] = self._wrap(handler, self._rpcs[method])
        return self._wrapped[method]

    def _wrap(self, handler: Any, rpc: Rpc) -> Any:
        serialize = self._counting_serializer(handler.response_serializer, rpc)
        if handler.unary_unary:
            wrapped = grpc.stream_unary_rpc_method_handler
            behaviour = self._unary(handler.unary_unary, handler.request_deserializer, rpc)
        elif handler.unary_stream:
            wrapped = grpc.stream_stream_rpc_method_handler
            behaviour = self._unary_stream(handler.unary_stream, handler.request_deserializer, rpc)
        elif handler.stream_stream:
            wrapped = grpc.stream_stream_rpc_method_handler
            behaviour = self._stream_stream(handler.stream_stream, handler.request_deserializer, rpc)
        else:
            raise NotImplementedError(f"{rpc}: no RPC of ours streams requests to a single reply")
        return wrapped(behaviour, None, serialize)

    def _unary(self, behaviour: Any, parse: Any, rpc: Rpc) -> Any:
        async def call(_requests: AsyncIterator[bytes], context: Context) -> Any:
            async def work() -> Any:
                return await behaviour(await self._only_message(context, parse, rpc), context)

            return await self._observe(rpc, context, work)

        return call

    def _unary_stream(self, behaviour: Any, parse: Any, rpc: Rpc) -> Any:
        async def call(_requests: AsyncIterator[bytes], context: Context) -> None:
            async def work() -> None:
                # No name for the message here: it would keep it in memory for as long as the stream lasts.
                replies = behaviour(await self._only_message(context, parse, rpc), context)
                await _send_all(replies, context)

            await self._observe(rpc, context, work)

        return call

    def _stream_stream(self, behaviour: Any, parse: Any, rpc: Rpc) -> Any:
        async def call(requests: AsyncIterator[bytes], context: Context) -> None:
            async def parsed() -> AsyncIterator[Any]:
                async for raw in requests:
                    yield self._parse(raw, parse, rpc)

            async def work() -> None:
                await _send_all(behaviour(parsed(), context), context)

            await self._observe(rpc, context, work)

        return call

    def _refuse(self, rpc: Rpc, refusal: StatusError) -> Any:
        """A handler for any kind of RPC: it reads no message, and ends the RPC with this status."""

        async def work() -> None:
            raise refusal

        async def call(_requests: AsyncIterator[bytes], context: Context) -> None:
            await self._observe(rpc, context, work)

        return grpc.stream_stream_rpc_method_handler(call)

    async def _observe(self, rpc: Rpc, context: Context, work: Callable[[], Awaitable[T]]) -> T:
        """Run the RPC; count it once, whatever its end; turn exceptions into a status."""
        start = time.monotonic()
        metadata = _text_metadata(context)
        request_id = logs.request_id(metadata.get(REQUEST_ID_KEY))
        structlog.contextvars.bind_contextvars(request_id=request_id, method=rpc[2])
        self._metrics.rpc_started(rpc)
        code, failure = grpc.StatusCode.UNKNOWN, None
        followers: tuple[RpcFollower, ...] = ()
        try:
            followers = self._follow(rpc, request_id, metadata)
            context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
            reply = await work()
            code = _CODES[context.code() or 0]
            return reply
        except asyncio.CancelledError:
            code = _code_of_cancel(context)
            raise
        except grpc.aio.AbortError:
            code = _CODES[context.code() or 0]
            raise
        except Exception as error:
            failure = failure_of(error)
            code = failure.code
            self._report(rpc, failure, error)
            await _abort(context, failure, request_id)
            raise AssertionError("abort always raises") from error
        finally:
            seconds = time.monotonic() - start
            trace_id = next((follower.trace_id for follower in followers if follower.trace_id), "")
            self._metrics.rpc_handled(rpc, code, seconds, trace_id)
            # The reply leaves when this returns: nobody waits for what the followers write.
            asyncio.get_running_loop().call_soon(_end, followers, code, seconds, failure)

    def _follow(self, rpc: Rpc, request_id: str, metadata: Mapping[str, str]) -> tuple[RpcFollower, ...]:
        begun = (observer(rpc, request_id, metadata) for observer in self._observers)
        followers = tuple(follower for follower in begun if follower is not None)
        # Every RPC has a task, and so a context, of its own: there is nothing to reset.
        trace.followers.set(followers)
        return followers

    def _report(self, rpc: Rpc, failure: Failure, error: Exception) -> None:
        if failure.code in CALLER_CODES:
            self._metrics.invalid(rpc[2], failure.reason)
        if not failure.is_expected:
            _log.error("failed", error_id=failure.metadata.get("error_id"), exc_info=error)

    async def _only_message(self, context: Context, parse: Callable[[bytes], Any] | None, rpc: Rpc) -> Any:
        """The request, unless the door refuses it unread."""
        if self._door is not None:
            self._door.check(rpc[2], context.time_remaining())
        raw = await context.read()
        if raw is grpc.aio.EOF:
            raise InvalidRequest("this RPC came without its message")
        return self._parse(raw, parse, rpc)

    def _parse(self, raw: bytes, parse: Callable[[bytes], Any] | None, rpc: Rpc) -> Any:
        self._metrics.message_received(rpc)
        if parse is None:
            return raw
        try:
            return parse(raw)
        except DecodeError as error:
            raise InvalidRequest("these bytes are not the message of this method") from error

    def _counting_serializer(
        self, serialize: Callable[[Any], bytes] | None, rpc: Rpc
    ) -> Callable[[Any], bytes]:
        def call(message: Any) -> bytes:
            self._metrics.message_sent(rpc)
            return serialize(message) if serialize else message

        return call


def _end(
    followers: tuple[RpcFollower, ...], code: grpc.StatusCode, seconds: float, failure: Failure | None
) -> None:
    for follower in followers:
        follower.ended(code, seconds, failure)


async def _send_all(replies: Any, context: Context) -> None:
    """Run a streaming handler of either style: an async generator, or a coroutine that writes itself."""
    if not inspect.isasyncgen(replies):
        await replies
        return
    async for reply in replies:
        await context.write(reply)


async def _abort(context: Context, failure: Failure, request_id: str) -> None:
    """Send the status. Behind messages that a client does not read it cannot leave: then gRPC keeps it, and
    sends it if the client ever reads on, but nothing of ours waits for that.
    """
    metadata = (*trailing_metadata(failure, request_id), (REQUEST_ID_KEY, request_id))
    try:
        async with asyncio.timeout(_LAST_WORD_S):
            await context.abort(failure.code, failure.message, metadata)
    except TimeoutError as error:
        # The one exception that gRPC takes as an end without a status, and without a stack in its log.
        raise asyncio.CancelledError from error


def _code_of_cancel(context: Context) -> grpc.StatusCode:
    """A client that leaves and a deadline that passes both cancel the handler; the clock tells which."""
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s <= DEADLINE_TOLERANCE_S:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def _text_metadata(context: Context) -> dict[str, str]:
    """What the client sent beside the message, without the binary entries."""
    pairs = context.invocation_metadata() or ()
    return {name: value for name, value in pairs if isinstance(value, str)}
