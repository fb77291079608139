"""Raw calls of a load: bytes out, bytes in, no parsing, so that the generator takes little processor time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from serving import limits
from serving.client.channel import channel_options
from serving.client.errors import service_error
from serving.load.outcome import OK
from serving.load.plan import RpcKind
from serving.load.requests import paths

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

    def __init__(self, targets: Sequence[str], *, retries: bool) -> None:
        self._channels = [grpc.aio.insecure_channel(target, _options(retries)) for target in targets]
        self._methods = [_methods(channel) for channel in self._channels]

    async def close(self) -> None:
        """Give up the connections; calls in work are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def send(self, client: int, kind: RpcKind, request: bytes, deadline_s: float) -> Answer:
        """One call of this client, over the connection that it has; never raises for a failed call."""
        method = self._methods[client % len(self._methods)][kind]
        first_at: float | None = None
        try:
            if kind in _STREAMS:
                async for _ in method(request, timeout=deadline_s):
                    first_at = first_at or time.monotonic()
            else:
                await method(request, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            failed = service_error(error)
            return Answer(failed.code.name, failed.reason, failed.message, first_at)
        return Answer(OK, first_at=first_at)


def _methods(channel: grpc.aio.Channel) -> dict[RpcKind, Any]:
    return {
        kind: (channel.unary_stream if kind in _STREAMS else channel.unary_unary)(path)
        for kind, path in paths().items()
    }


def _options(retries: bool) -> list[tuple[str, Any]]:
    options = channel_options(limits.MAX_REQUEST_SIZE_BYTES, limits.MAX_RESPONSE_SIZE_BYTES)
    if not retries:
        plain = ("grpc.enable_retries", "grpc.service_config")
        options = [option for option in options if option[0] not in plain] + [("grpc.enable_retries", 0)]
    # Else channels to one address share one connection, and with it its flow control.
    return [*options, ("grpc.use_local_subchannel_pool", 1)]
