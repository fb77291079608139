"""Running a Bulk over a sync channel: threads, queues, waiting. Knows neither pictures nor streams."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from serving.client.errors import ServerFault, ServiceError, service_error
from serving.client.many import Bulk, ended_early, no_answer

# The status of a stream whose answers have all come; nothing depends on it but the server's statistics.
_LAST_WORD_S = 1.0

OpenStream = Callable[[Iterator[Any]], Any]


class _Stream:
    """One stream: messages go out by a thread of grpc, answers come in by one of ours."""

    def __init__(self, open_stream: OpenStream) -> None:
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = open_stream(iter(self._outgoing.get, None))
        self._reader = threading.Thread(target=self._read, name="tessera-many", daemon=True)
        self._reader.start()

    @property
    def has_answer(self) -> bool:
        return not self._incoming.empty()

    def send(self, message: Any) -> None:
        self._outgoing.put(message)

    def half_close(self) -> None:
        self._outgoing.put(None)

    def receive(self, timeout_s: float) -> Any:
        """The next answer. Raises ServiceError."""
        try:
            answer = self._incoming.get(timeout=timeout_s)
        except queue.Empty:
            raise no_answer(timeout_s) from None
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    def finish(self) -> None:
        """Let the server close the stream."""
        self._reader.join(_LAST_WORD_S)

    def close(self) -> None:
        self._call.cancel()
        self.half_close()
        self._reader.join()

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._incoming.put(answer)
            self._incoming.put(ended_early())
        except grpc.RpcError as error:
            self._incoming.put(service_error(error))


def run_many(
    open_stream: OpenStream, bulk: Bulk, sources: Iterable[Any], timeout_s: float
) -> Iterator[tuple[Any, Any]]:
    """(key, result) of each source, in order. Sources are read in the caller's thread."""
    remaining = iter(sources)
    is_exhausted = False
    stream: _Stream | None = None
    try:
        while True:
            yield from bulk.ready()
            if not is_exhausted and bulk.has_room and not (stream and stream.has_answer):
                message, is_exhausted = _next_message(bulk, remaining)
                if message is not None:
                    stream = stream or _Stream(open_stream)
                    stream.send(message)
                elif is_exhausted and stream:
                    stream.half_close()
            elif stream is None or (is_exhausted and not bulk.is_waiting):
                break
            else:
                stream = _receive(stream, open_stream, bulk, timeout_s, is_exhausted)
        if stream:
            stream.finish()
    finally:
        if stream:
            stream.close()


def _next_message(bulk: Bulk, remaining: Iterator[Any]) -> tuple[Any, bool]:
    """The message of one more source (None if it makes none), and whether there was no more."""
    for given in remaining:
        return bulk.add(given), False
    return None, True


def _receive(
    stream: _Stream, open_stream: OpenStream, bulk: Bulk, timeout_s: float, is_exhausted: bool
) -> _Stream | None:
    """Take one answer; the stream to go on with: this one, a new one, or None until one is needed."""
    try:
        bulk.answered(stream.receive(timeout_s))
        return stream
    except ServiceError as error:
        stream.close()
        if not bulk.is_waiting and not isinstance(error, ServerFault):
            return None
        time.sleep(bulk.pause_s(error))
        stream = _reopened(open_stream, error)
    for message in bulk.unanswered:
        stream.send(message)
    if is_exhausted:
        stream.half_close()
    return stream


def _reopened(open_stream: OpenStream, broken: ServiceError) -> _Stream:
    """A new stream. Raises what ended the last one where that was a client that somebody closed."""
    try:
        return _Stream(open_stream)
    except ValueError:  # what grpc has for a closed channel
        raise broken from None
