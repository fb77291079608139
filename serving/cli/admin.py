"""tessera admin: which models a running server has, and how much it logs. For its own machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from serving.cli.connection import ServerError, explain_missing

# A model loads and drains while the caller waits; the server itself ends a drain after a minute by default.
_TIMEOUT_S = 600

AdminTarget = Annotated[
    str, typer.Option(envvar="TESSERA_ADMIN_TARGET", metavar="HOST:PORT", help="Where the admin port is.")
]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME...]", help="name, name@version or name@sha256:digest.")
]
DEFAULT_TARGET = "127.0.0.1:50052"


def models(
    target: AdminTarget = DEFAULT_TARGET,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per model.")] = False,
) -> None:
    """List the models of a server in any state: loading, ready, draining."""
    with _stub(target) as (stub, pb):
        for model in stub.ListModels(pb.ListModelsRequest(), timeout=_TIMEOUT_S).models:
            facts = _facts(model)
            print(json.dumps(facts) if as_json else _line(facts))


def load(
    source: Annotated[str, typer.Argument(help="Name of a shipped model, or a folder on the server.")],
    target: AdminTarget = DEFAULT_TARGET,
    make_default: Annotated[
        bool, typer.Option("--default", help="Requests that name no model get this one.")
    ] = False,
) -> None:
    """Add a model to a server; returns once it takes requests."""
    with _stub(target) as (stub, pb):
        request = pb.LoadModelRequest(source=source, make_default=make_default)
        print(_line(_facts(stub.LoadModel(request, timeout=_TIMEOUT_S).model)))


def unload(
    name: Annotated[str, typer.Argument(help="name, name@version or name@sha256:digest.")],
    target: AdminTarget = DEFAULT_TARGET,
) -> None:
    """Take a model out of service; returns once its last request is done and its memory free."""
    with _stub(target) as (stub, pb):
        stub.UnloadModel(pb.UnloadModelRequest(name=name), timeout=_TIMEOUT_S)


def reload(names: Names = None, target: AdminTarget = DEFAULT_TARGET) -> None:
    """Load models again from where they came from, all of them without NAME; no request fails meanwhile."""
    with _stub(target) as (stub, pb):
        for name in names or _ready_names(stub, pb):
            reply = stub.ReloadModel(pb.ReloadModelRequest(name=name), timeout=_TIMEOUT_S)
            print(_line(_facts(reply.model)))


def log_level(
    level: Annotated[str, typer.Argument(help="debug, info, warning or error.")],
    target: AdminTarget = DEFAULT_TARGET,
) -> None:
    """Log more or less from now on."""
    with _stub(target) as (stub, pb):
        if level not in ("debug", "info", "warning", "error"):
            raise typer.BadParameter(f"must be debug, info, warning or error, got {level!r}")
        stub.SetLogLevel(pb.SetLogLevelRequest(level=f"LOG_LEVEL_{level.upper()}"), timeout=_TIMEOUT_S)


@contextmanager
def _stub(target: str) -> Iterator[tuple[Any, Any]]:
    """AdminService at this target, and its messages. Failures of a call become ServerError."""
    try:
        import grpc

        from serving.client.errors import service_error
        from tessera.admin.v1 import admin_service_pb2, admin_service_pb2_grpc
    except ModuleNotFoundError as error:
        explain_missing(error)
        raise
    with grpc.insecure_channel(target) as channel:
        try:
            yield admin_service_pb2_grpc.AdminServiceStub(channel), admin_service_pb2  # type: ignore[no-untyped-call]
        except grpc.RpcError as error:
            failure = service_error(error)
            raise ServerError(failure.message, failure.reason or failure.code.name) from error


def _ready_names(stub: Any, pb: Any) -> list[str]:
    served = stub.ListModels(pb.ListModelsRequest(), timeout=_TIMEOUT_S).models
    return [f"{m.ref.name}@{m.ref.version}" for m in served if m.state == pb.MODEL_STATE_READY]


def _facts(model: Any) -> dict[str, Any]:
    state = type(model).DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[model.state].name
    return {
        "name": model.ref.name,
        "version": model.ref.version,
        "fingerprint": model.ref.fingerprint,
        "digest": model.ref.digest,
        "source": model.source,
        "state": state.removeprefix("MODEL_STATE_").lower(),
        "default": model.default,
        "leases": model.lease_count,
        "load_s": model.load_duration.ToNanoseconds() / 1e9,
        "warmup_s": model.warmup_duration.ToNanoseconds() / 1e9,
    }


def _line(facts: dict[str, Any]) -> str:
    name = f"{facts['name']}@{facts['version']}" if facts["name"] else "-"
    digest = f"sha256:{facts['digest'][:12]}" if facts["digest"] else "-"
    default = "  default" if facts["default"] else ""
    return f"{name}  {facts['state']}  {facts['leases']} leases  {digest}  {facts['source']}{default}"
