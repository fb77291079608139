"""The items of one EncodeMany or DecodeMany that are in work, and when to give up. Pure: knows no channel.

sources ── add ──▶ [in work, in order, at most the window] ── answered ──▶ ready ──▶ the caller
                          └── unanswered: sent again when the stream breaks ──┘
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from serving.client.errors import (
    Cancelled,
    DeadlineExceeded,
    Overloaded,
    ServerFault,
    ServiceError,
    Unavailable,
)
from serving.client.requests import item_error_of
from tokenizer.errors import TokenizerError

MAX_RESUMES = 8
"""Broken streams in a row without an answer between them: some 15 s, enough for a server to restart."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
# gRFC A6: so that clients whose server went away do not all come back at once.
_JITTER = (0.8, 1.2)
# Where a server does not tell its window.
_DEFAULT_WINDOW = 8


@dataclass(slots=True)
class _Item:
    item_id: int
    key: Any
    message: Any
    """None if the item was refused before it was sent."""
    outcome: Any = None


@dataclass(frozen=True, slots=True)
class Codec:
    """What encoding and decoding differ in."""

    build: Callable[[int, Any], Any]
    """Item id and source -> message. Raises ValueError, TokenizerError or ServiceError."""
    read: Callable[[Any], Any]
    """Reply -> result or ServiceError."""


class Bulk:
    """Items in work."""

    def __init__(self, codec: Codec, *, window: int, max_resumes: int) -> None:
        self._codec = codec
        self._window, self._max_resumes = window, max_resumes
        self._items: deque[_Item] = deque()
        self._next_id = 0
        self._resumes = 0

    @property
    def has_room(self) -> bool:
        """Whether one more item may be taken from the sources."""
        return len(self._items) < self._window

    @property
    def is_waiting(self) -> bool:
        """Whether the server owes an answer."""
        return any(item.outcome is None for item in self._items)

    @property
    def unanswered(self) -> list[Any]:
        """The messages to send on a new stream."""
        return [item.message for item in self._items if item.outcome is None]

    def add(self, given: Any) -> Any:
        """The message to send for a source, or for (key, source); None if the source makes no request."""
        item_id, self._next_id = self._next_id, self._next_id + 1
        key, source = given if isinstance(given, tuple) else (item_id, given)
        item = _Item(item_id, key, None)
        try:
            item.message = self._codec.build(item_id, source)
        except (ValueError, TokenizerError, ServiceError) as error:
            item.outcome = item_error_of(error)
        self._items.append(item)
        return item.message

    def answered(self, reply: Any) -> None:
        """Take the next answer.

        Raises Unavailable if it says that the server is going away: the item is sent again to the next one.
        Raises ServerFault for an answer out of order.
        """
        item = next((item for item in self._items if item.outcome is None), None)
        if item is None or item.item_id != reply.item_id:
            awaited = "none" if item is None else str(item.item_id)
            raise ServerFault(
                f"answer to item {reply.item_id}, awaited {awaited}", code=grpc.StatusCode.INTERNAL
            )
        outcome = self._codec.read(reply)
        if isinstance(outcome, Unavailable) and self._resumes < self._max_resumes:
            raise outcome
        item.outcome = outcome
        self._resumes = 0

    def ready(self) -> Iterator[tuple[Any, Any]]:
        """Take out what is answered, in order, as (key, result)."""
        while self._items and self._items[0].outcome is not None:
            item = self._items.popleft()
            yield item.key, item.outcome

    def pause_s(self, error: ServiceError) -> float:
        """How long to wait before a new stream. Raises the error if a new one would not help."""
        is_passing = isinstance(error, Unavailable | Cancelled) or (
            isinstance(error, Overloaded) and error.retry_after_s is not None
        )
        if not is_passing or self._resumes >= self._max_resumes:
            raise error
        backoff_s: float = min(_FIRST_PAUSE_S * 2**self._resumes, _LONGEST_PAUSE_S)
        self._resumes += 1
        return max(backoff_s * random.uniform(*_JITTER), error.retry_after_s or 0.0)


def window_of(asked: int | None, told: int) -> int:
    """Items in work at once: what the caller asks for, and never more than the server takes."""
    if asked is not None and asked < 1:
        raise ValueError(f"window must be at least 1, got {asked}")
    most = told or _DEFAULT_WINDOW
    return most if asked is None else min(asked, most)


def ended_early() -> Unavailable:
    """A server that ends the stream owes the answers as much as one that breaks it."""
    return Unavailable("the server ended the stream", code=grpc.StatusCode.UNAVAILABLE)


def no_answer(timeout_s: float) -> DeadlineExceeded:
    """The server is connected and says nothing."""
    return DeadlineExceeded(
        f"no answer for {timeout_s:g} s", code=grpc.StatusCode.DEADLINE_EXCEEDED, reason="NO_ANSWER"
    )
