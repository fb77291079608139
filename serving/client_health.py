"""The standard health check as a client makes it. Knows no service of ours.

Without grpcio-health-checking: its generated code asks for newer runtimes of protobuf than its metadata
says, and would decide which ones our client can live with. On the wire, the two messages are these wrappers:
each has one field, number 1, of the same type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

METHOD = "/grpc.health.v1.Health/Check"
_SERVING = 1


def health_request(service: str) -> StringValue:
    """A HealthCheckRequest; "" asks for the whole server."""
    return StringValue(value=service)


def is_serving(reply: Int32Value) -> bool:
    """What a HealthCheckResponse says."""
    return reply.value == _SERVING


def health_check(channel: Any) -> Callable[..., Any]:
    """The RPC, on a channel of either kind (grpc or grpc.aio)."""
    check: Callable[..., Any] = channel.unary_unary(
        METHOD, request_serializer=StringValue.SerializeToString, response_deserializer=Int32Value.FromString
    )
    return check
