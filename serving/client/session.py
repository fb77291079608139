"""What the sync and the async client share besides requests and replies: settings, limits, patience, key.

Makes no calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import grpc

from serving.client import replies, requests
from serving.client.channel import channel_options
from serving.client.errors import DeadlineExceeded
from serving.client.many import Codec
from serving.client.replies import ServerInfo
from serving.client.requests import Picture, Stream
from tessera.v1 import tokenizer_service_pb2 as pb
from tokenizer.budget import TokenBudget
from tokenizer.coding import Coding
from tokenizer.realism import Realism

Client = TypeVar("Client", bound=type)
Request = TypeVar("Request")

# Between two questions whether a server serves: quick at first, and no load on one that takes long.
_FIRST_POLL_S, _LONGEST_POLL_S = 0.05, 1.0


class Session:
    """Settings of one client, and what it has learned of its server."""

    def __init__(
        self,
        target: str,
        timeout_s: float,
        metadata: tuple[tuple[str, str], ...],
        max_request_size_bytes: int,
        max_response_size_bytes: int,
    ) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, got {timeout_s}")
        self.target = target
        self.metadata = metadata
        self.options = channel_options(max_request_size_bytes, max_response_size_bytes)
        self._timeout_s = timeout_s
        self._max_request_size_bytes = max_request_size_bytes
        self._process_id = os.getpid()
        self.info: ServerInfo | None = None

    @property
    def max_request_size_bytes(self) -> int:
        """The smaller limit of this client and, once it has told, of its server."""
        told = self.info.limits.max_request_size_bytes if self.info else 0
        return min(self._max_request_size_bytes, told or self._max_request_size_bytes)

    def timeout_s(self, asked_s: float | None) -> float:
        """The deadline of one call."""
        return self._timeout_s if asked_s is None else asked_s

    def checked(self, request: Request) -> Request:
        """The request, unless sending it would hang or fail without a reason."""
        if os.getpid() != self._process_id:
            raise RuntimeError("a client does not outlive a fork: make a new one in the child process")
        requests.check_size(request, self.max_request_size_bytes)
        return request

    def encode_request(
        self,
        image: Picture,
        budget: TokenBudget | None,
        coding: Coding | None,
        canvas_area_px: int | None,
        model: str,
    ) -> pb.EncodeRequest:
        """A request that fits the limits as known."""
        return requests.encode_request(
            image,
            budget,
            coding=coding,
            canvas_area_px=canvas_area_px,
            model=model,
            max_size_bytes=self.max_request_size_bytes,
        )

    def encode_codec(
        self, budget: TokenBudget | None, coding: Coding | None, canvas_area_px: int | None, model: str
    ) -> Codec:
        """How the items of EncodeMany are made and read."""

        def build(item_id: int, image: Picture) -> pb.EncodeManyRequest:
            request = self.encode_request(image, budget, coding, canvas_area_px, model)
            return self.checked(requests.encode_many_request(item_id, request))

        return Codec(build, replies.many_encoded)

    def decode_codec(
        self, format: str, quality: int | None, lossless: bool, realism: Realism, model: str
    ) -> Codec:
        """How the items of DecodeMany are made and read."""

        def build(item_id: int, source: Stream) -> pb.DecodeManyRequest:
            request = requests.decode_request(
                source, format, quality=quality, lossless=lossless, realism=realism, model=model
            )
            return self.checked(requests.decode_many_request(item_id, request))

        return Codec(build, replies.many_decoded)

    def learn(self, info: ServerInfo) -> ServerInfo:
        """Keep what a server told; one that is still loading is asked again."""
        self.info = info if info.ready else None
        return info


class Patience:
    """When to ask again whether a server serves, until the time is up."""

    def __init__(self, target: str, timeout_s: float, now: Callable[[], float]) -> None:
        self._target, self._timeout_s, self._now = target, timeout_s, now
        self._end_s = now() + timeout_s
        self._next_s = _FIRST_POLL_S

    @property
    def left_s(self) -> float:
        """Time for the next question."""
        return max(self._end_s - self._now(), 0.001)

    def pause_s(self, answer: str) -> float:
        """How long to wait after this answer. Raises DeadlineExceeded once the time is up."""
        if self._now() >= self._end_s:
            raise DeadlineExceeded(
                f"{self._target} does not serve after {self._timeout_s:g} s: {answer}",
                code=grpc.StatusCode.DEADLINE_EXCEEDED,
                reason="NOT_SERVING",
            )
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, _LONGEST_POLL_S)
        return min(pause_s, self.left_s)


def docstrings_of(documented: type) -> Callable[[Client], Client]:
    """Class decorator: methods without a docstring get that of the method of the same name."""

    def copy(client: Client) -> Client:
        for name, method in vars(client).items():
            if callable(method) and not method.__doc__ and hasattr(documented, name):
                method.__doc__ = getattr(documented, name).__doc__
        return client

    return copy
