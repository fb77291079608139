"""Running a Bulk over an aio channel: tasks, queues, waiting. Knows neither pictures nor streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from serving.client.errors import ServiceError, service_error
from serving.client.many import Bulk, ended_early, no_answer

# As in many_sync.
_LAST_WORD_S = 1.0

OpenStream = Callable[[], Any]
_END = object()


# grpc.aio (1.85) puts this text with INTERNAL in the place of the server's own status when the stream breaks
# under a message that is being sent.
_LOST_STATUS = "Internal error from Core"


class _Stream:
    """One stream: messages go out by a task of its own, so that a server that does not read blocks nobody."""

    def __init__(self, open_stream: OpenStream) -> None:
        self._outgoing: asyncio.Queue[Any] = asyncio.Queue()
        self._open_stream = open_stream
        self._call = open_stream()
        self._sender = asyncio.create_task(self._send())

    def send(self, message: Any) -> None:
        self._outgoing.put_nowait(message)

    def half_close(self) -> None:
        self._outgoing.put_nowait(None)

    async def receive(self) -> Any:
        """The next answer. Raises ServiceError."""
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            lost = error.details() == _LOST_STATUS
            raise (await self._status_again() if lost else service_error(error)) from None
        if answer is grpc.aio.EOF:
            raise ended_early()
        return answer

    async def finish(self) -> None:
        """Let the server close the stream."""
        with suppress(asyncio.TimeoutError, grpc.RpcError):
            await asyncio.wait_for(self._call.code(), _LAST_WORD_S)

    async def close(self) -> None:
        self._call.cancel()
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)

    async def _status_again(self) -> ServiceError:
        """What the server says to a stream without messages, where nothing can get lost."""
        try:
            call = self._open_stream()
            with suppress(grpc.aio.InternalError):  # from a call that has failed already: `read` says how
                await call.done_writing()
            await call.read()
        except grpc.aio.AioRpcError as error:
            return service_error(error)
        return ended_early()

    async def _send(self) -> None:
        # What went wrong, `receive` tells.
        with suppress(grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
            while (message := await self._outgoing.get()) is not None:
                await self._call.write(message)
            await self._call.done_writing()


class _Run:
    """One bulk job: a task that takes the next source, and one that takes the next answer."""

    def __init__(
        self,
        open_stream: OpenStream,
        bulk: Bulk,
        sources: Iterable[Any] | AsyncIterable[Any],
        timeout_s: float,
    ) -> None:
        self._open_stream, self._bulk, self._timeout_s = open_stream, bulk, timeout_s
        self._remaining = sources.__aiter__() if isinstance(sources, AsyncIterable) else _as_async(sources)
        self._is_exhausted = False
        self._stream: _Stream | None = None
        self._source: asyncio.Task[Any] | None = None
        self._answer: asyncio.Task[Any] | None = None

    async def step(self) -> bool:
        """Wait for a source or an answer, and take it; False once there is nothing to wait for."""
        if self._source is None and self._bulk.has_room and not self._is_exhausted:
            self._source = asyncio.create_task(_next(self._remaining))
        if self._answer is None and self._stream is not None and self._bulk.is_waiting:
            self._answer = asyncio.create_task(self._stream.receive())
        pending = [task for task in (self._source, self._answer) if task]
        if not pending:
            return False
        timeout_s = self._timeout_s if self._answer else None
        done, _ = await asyncio.wait(pending, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise no_answer(self._timeout_s)
        if self._source in done:
            self._take_source()
        if self._answer in done:
            await self._take_answer()
        return True

    async def finish(self) -> None:
        if self._stream:
            await self._stream.finish()

    async def close(self) -> None:
        tasks = [task for task in (self._source, self._answer) if task]
        for task in tasks:
            task.cancel()
        if self._stream:
            await self._stream.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take_source(self) -> None:
        assert self._source is not None
        source, self._source = self._source, None
        given = source.result()
        if given is _END:
            self._is_exhausted = True
            if self._stream:
                self._stream.half_close()
            return
        message = self._bulk.add(given)
        if message is not None:
            self._stream = self._stream or _Stream(self._open_stream)
            self._stream.send(message)

    async def _take_answer(self) -> None:
        assert self._answer is not None and self._stream is not None
        answer, self._answer = self._answer, None
        try:
            self._bulk.answered(answer.result())
        except ServiceError as error:
            await self._stream.close()
            await asyncio.sleep(self._bulk.pause_s(error))
            self._resume()

    def _resume(self) -> None:
        self._stream = _Stream(self._open_stream)
        for message in self._bulk.unanswered:
            self._stream.send(message)
        if self._is_exhausted:
            self._stream.half_close()


async def run_many(
    open_stream: OpenStream, bulk: Bulk, sources: Iterable[Any] | AsyncIterable[Any], timeout_s: float
) -> AsyncGenerator[tuple[Any, Any], None]:
    """(key, result) of each source, in order."""
    run = _Run(open_stream, bulk, sources, timeout_s)
    try:
        while await run.step():
            for result in bulk.ready():
                yield result
        await run.finish()
    finally:
        await run.close()


async def _next(remaining: AsyncIterator[Any]) -> Any:
    return await anext(remaining, _END)


async def _as_async(sources: Iterable[Any]) -> AsyncIterator[Any]:
    for source in sources:
        yield source
