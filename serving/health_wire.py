"""Asking the standard health service, with nothing but grpc: for probes that must start fast.

The two messages of grpc.health.v1 hold one string and one number in field 1, byte for byte as protobuf's own
StringValue and Int32Value; so a client needs no package with health stubs.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from google.protobuf.wrappers_pb2 import Int32Value, StringValue


class HealthState(IntEnum):
    """HealthCheckResponse.ServingStatus."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class HealthStub:
    """Check and Watch of a channel, sync or aio: `health_request` in, HealthState out."""

    def __init__(self, channel: Any) -> None:
        codec = {
            "request_serializer": StringValue.SerializeToString,
            "response_deserializer": _state,
        }
        self.check = channel.unary_unary("/grpc.health.v1.Health/Check", **codec)
        self.watch = channel.unary_stream("/grpc.health.v1.Health/Watch", **codec)


def health_request(service: str) -> StringValue:
    """The question after a service, by its full name; "" is the whole server."""
    return StringValue(value=service)


def _state(data: bytes) -> HealthState:
    number = Int32Value.FromString(data).value
    return HealthState(number) if number in set(HealthState) else HealthState.UNKNOWN
