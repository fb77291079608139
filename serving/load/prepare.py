"""Requests for a load, with the codestreams that it needs made by the server under test."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from serving import limits
from serving.client.channel import channel_options
from serving.client.errors import Unavailable, service_error
from serving.client_credentials import ANYBODY, Access, Caller
from serving.load import requests
from serving.load.pictures import LoadPicture
from serving.load.plan import LoadPlan, RpcKind
from serving.load.requests import Requests

CONNECT_TIMEOUT_S = 5.0
# A failed connection tells its reason at once, unless the next attempt has just begun.
_REASON_TIMEOUT_S = 2.0
# Of one picture; its first may wait for a whole queue of others.
ENCODE_TIMEOUT_S = 60.0


async def prepare(
    plan: LoadPlan,
    pictures: Sequence[LoadPicture],
    *,
    max_size_bytes: int | None = None,
    caller: Caller = ANYBODY,
) -> Requests:
    """Requests of each kind of the mix. Raises ServiceError if the server is away or refuses a picture."""
    options = channel_options(limits.MAX_REQUEST_SIZE_BYTES, limits.MAX_RESPONSE_SIZE_BYTES)
    access = caller.access_to(plan.target)
    async with access.aio_channel(plan.target, options) as channel:
        await _connect(channel, plan.target)
        kinds = [kind for kind, weight in plan.mix.items() if weight > 0]
        streams: list[bytes] = []
        if any(requests.needs_streams(kind) for kind in kinds):
            encodes = requests.build(RpcKind.ENCODE, pictures, (), max_size_bytes)
            streams = [await _encoded(channel, access, request) for request in encodes]
    return {
        kind: requests.build(kind, pictures, streams, max_size_bytes) if kind in kinds else []
        for kind in plan.mix
    }


async def _connect(channel: grpc.aio.Channel, target: str) -> None:
    try:
        await asyncio.wait_for(channel.channel_ready(), CONNECT_TIMEOUT_S)
    except TimeoutError as error:
        reason = await _why_not_connected(channel)
        raise Unavailable(
            f"nobody answers at {target} within {CONNECT_TIMEOUT_S:g} s{reason}",
            code=grpc.StatusCode.UNAVAILABLE,
        ) from error


async def _why_not_connected(channel: grpc.aio.Channel) -> str:
    """What gRPC tells to a call, and to nobody who waits for a connection."""
    truncate: Any = channel.unary_unary(requests.paths()[RpcKind.TRUNCATE])
    try:
        await truncate(b"", timeout=_REASON_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return f": {error.details()}"
    return ""


async def _encoded(channel: grpc.aio.Channel, access: Access, request: bytes) -> bytes:
    encode: Any = channel.unary_unary(requests.paths()[RpcKind.ENCODE])
    try:
        reply = await encode(request, timeout=ENCODE_TIMEOUT_S, metadata=access.metadata)
    except grpc.aio.AioRpcError as error:
        raise service_error(error) from error
    return requests.codestream(reply)
