"""Every RPC that a port answers, as metrics name it. Read off the .proto files; answers nothing."""

from __future__ import annotations

from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from serving.metrics.server import Rpc
from tessera.admin.v1 import admin_service_pb2
from tessera.v1 import model_service_pb2, tokenizer_service_pb2

Rpcs = dict[str, Rpc]
"""`/service/Method` -> metric labels."""


def public_rpcs() -> Rpcs:
    """Everything that the port for clients answers."""
    return _rpcs_of(
        tokenizer_service_pb2.DESCRIPTOR,
        model_service_pb2.DESCRIPTOR,
        health_pb2.DESCRIPTOR,
        reflection_pb2.DESCRIPTOR,
    )


def admin_rpcs() -> Rpcs:
    """Everything that the port for operators answers."""
    return _rpcs_of(admin_service_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)


def _rpcs_of(*files: FileDescriptor) -> Rpcs:
    found: Rpcs = {}
    for file in files:
        for svc in file.services_by_name.values():
            for method in svc.methods:
                kind = _kind(method.client_streaming, method.server_streaming)
                found[f"/{svc.full_name}/{method.name}"] = (kind, svc.full_name, method.name)
    return found


def _kind(client_streaming: bool, server_streaming: bool) -> str:
    """The words of go-grpc-middleware."""
    if client_streaming:
        return "bidi_stream" if server_streaming else "client_stream"
    return "server_stream" if server_streaming else "unary"
