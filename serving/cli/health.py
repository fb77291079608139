"""health: whether a server serves, as a probe asks. Imports no model and no stubs, since probes run often.

stdout   SERVING, or with --watch each state as it changes
stderr   `error: HOST:PORT: what is wrong [REASON]`
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.connection import (
    CaFile,
    ClientCert,
    ClientKey,
    Connection,
    ServerError,
    Tls,
    explain_missing,
)

if TYPE_CHECKING:
    import grpc

    from serving.health_wire import HealthState

EXIT_SERVING, EXIT_NOT_SERVING = 0, 1
_UNANSWERED = {"UNAVAILABLE": "cannot be reached", "DEADLINE_EXCEEDED": "does not answer in time"}


def health(
    target: Annotated[
        str | None,
        typer.Option(
            envvar="TESSERA_TARGET",
            metavar="HOST:PORT",
            help="Where the server is; by default on this machine, at the port in TESSERA_PORT.",
        ),
    ] = None,
    service: Annotated[str, typer.Option(help="Full name of one service; by default the whole server.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Tell each change until the server goes.")] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Longest wait for an answer, in seconds.")] = 5.0,
    tls: Tls = False,
    ca_file: CaFile = None,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
) -> None:
    """Ask whether a server serves. Exit code 0 if it does, 1 if it does not or cannot be reached."""
    where = target or f"127.0.0.1:{os.environ.get('TESSERA_PORT') or 50051}"
    connection = Connection(where, timeout, None, tls, ca_file, client_cert, client_key)
    try:
        raise typer.Exit(_watch(connection, service) if watch else _check(connection, service))
    except ServerError as error:
        raise typer.Exit(_failed(where, str(error), error.reason)) from error


def main(arguments: list[str]) -> None:
    """`tessera health` without the rest of the command, which takes several times as long to load."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(health)
    app(args=arguments, prog_name="tessera health")


def _check(connection: Connection, service: str) -> int:
    import grpc

    from serving.health_wire import HealthStub, health_request

    with _open(connection) as channel:
        try:
            check = HealthStub(channel).check
            state = check(health_request(service), timeout=connection.timeout_s)
        except grpc.RpcError as error:
            return _unanswered(error, connection, service)
        return _tell(state, connection, service)


def _watch(connection: Connection, service: str) -> int:
    import grpc

    from serving.health_wire import HealthStub, health_request

    code = EXIT_NOT_SERVING
    with _open(connection) as channel:
        try:
            # Only the connection has a deadline: a healthy server says nothing more for days.
            grpc.channel_ready_future(channel).result(connection.timeout_s)
            for state in HealthStub(channel).watch(health_request(service)):
                # Before it is told: whoever reads it may interrupt at once.
                code = EXIT_SERVING if state.name == "SERVING" else EXIT_NOT_SERVING
                _tell(state, connection, service)
        except grpc.FutureTimeoutError:
            text = f"cannot be reached within {connection.timeout_s:g} s"
            return _failed(connection.target, text, "UNAVAILABLE")
        except grpc.RpcError as error:
            return _unanswered(error, connection, service)
        except KeyboardInterrupt:
            pass
    return code


def _open(connection: Connection) -> grpc.Channel:
    try:
        import grpc
    except ModuleNotFoundError as error:
        explain_missing(error)
        raise
    credentials = connection.credentials()
    if credentials is None:
        return grpc.insecure_channel(connection.target)
    return grpc.secure_channel(connection.target, credentials)


def _tell(state: HealthState, connection: Connection, service: str) -> int:
    if state.name == "SERVING":
        print("SERVING", flush=True)
        return EXIT_SERVING
    if state.name == "SERVICE_UNKNOWN":
        return _unknown(connection, service)
    return _failed(connection.target, "is there and does not serve", state.name)


def _unanswered(error: grpc.RpcError, connection: Connection, service: str) -> int:
    code = error.code().name
    if code == "NOT_FOUND":
        return _unknown(connection, service)
    text = _UNANSWERED.get(code, "failed")
    return _failed(connection.target, f"{text}: {' '.join(str(error.details()).split())}", code)


def _unknown(connection: Connection, service: str) -> int:
    return _failed(connection.target, f"has no service {service}", "SERVICE_UNKNOWN")


def _failed(target: str, text: str, reason: str) -> int:
    print(f"error: {target}: {text} [{reason}]", file=sys.stderr, flush=True)
    return EXIT_NOT_SERVING
