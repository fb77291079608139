"""Where a server is, who asks, and how long to wait: flags of all commands that ask one. grpc comes late."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from serving.cli.tls_files import client_tls, read_file
from serving.cli.tls_hints import with_hint

if TYPE_CHECKING:
    from serving.client import TokenizerClient
    from serving.client_credentials import Caller, ClientTls

DEFAULT_TARGET = "127.0.0.1:50051"
KEY_VARIABLE = "TESSERA_KEY"
_LIBRARIES_OF_SERVING = (
    "cryptography",
    "google",
    "grpc",
    "prometheus_client",
    "pydantic",
    "pydantic_settings",
    "structlog",
)
_PANEL = "Connection"

Target = Annotated[
    str,
    typer.Option(
        envvar="TESSERA_TARGET", metavar="HOST:PORT", help="Where the server is.", rich_help_panel=_PANEL
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        envvar="TESSERA_KEY_FILE",
        help=f"File with the key to show; else the variable {KEY_VARIABLE}.",
        rich_help_panel=_PANEL,
    ),
]
Tls = Annotated[
    bool,
    typer.Option("--tls", help="Encrypt, and trust what this system trusts.", rich_help_panel=_PANEL),
]
CaFile = Annotated[
    Path | None,
    typer.Option(help="Encrypt, and trust these authorities (PEM).", rich_help_panel=_PANEL),
]
ClientCert = Annotated[
    Path | None,
    typer.Option(help="Certificate chain to show (PEM), with --client-key.", rich_help_panel=_PANEL),
]
ClientKey = Annotated[Path | None, typer.Option(help="Its private key (PEM).", rich_help_panel=_PANEL)]
ServerName = Annotated[
    str | None,
    typer.Option(help="Name in its certificate, where it is not the target's.", rich_help_panel=_PANEL),
]
Timeout = Annotated[
    float,
    typer.Option(min=0.001, metavar="SECONDS", help="Longest wait for an answer.", rich_help_panel=_PANEL),
]


class ServerError(Exception):
    """The server cannot be reached, or the libraries for it are missing: no fault of an input."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is and who asks, as the flags say."""

    target: str
    key: str | None = field(repr=False)
    tls: bool
    ca_file: Path | None
    client_cert: Path | None
    client_key: Path | None
    server_name: str | None

    def caller(self) -> Caller:
        """Key and TLS, known to be usable with this target.

        Raises typer.BadParameter where they are not, ServerError if the libraries are missing.
        """
        try:
            from serving.client_credentials import Caller
        except ModuleNotFoundError as error:
            explain_missing(error)
            raise
        with _unusable_flags():
            caller = Caller(self.key, self._client_tls())
            caller.access_to(self.target)
            return caller

    def _client_tls(self) -> ClientTls | None:
        return client_tls(self.tls, self.ca_file, self.client_cert, self.client_key, self.server_name)


@dataclass(frozen=True, slots=True)
class Connection(Server):
    """The same for commands that make one call after the other."""

    timeout_s: float

    def connect(self) -> TokenizerClient:
        """A client for this server. Raises ServerError if its libraries are missing."""
        try:
            from serving.client import TokenizerClient
        except ModuleNotFoundError as error:
            explain_missing(error)
            raise
        with _unusable_flags():
            return TokenizerClient(
                self.target, tls=self._client_tls(), key=self.key, timeout_s=self.timeout_s
            )


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the flags of a connection in the place of its parameter `connection`."""

    def connection(timeout: float, **flags: Any) -> Connection:
        return Connection(**_shown(flags), timeout_s=timeout)

    return _with_flags(command, "connection", connection, (_TARGET, _TIMEOUT, *_CREDENTIALS))


def with_server(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the same flags, less the wait, in the place of its parameter `server`."""

    def server(**flags: Any) -> Server:
        return Server(**_shown(flags))

    return _with_flags(command, "server", server, (_TARGET, *_CREDENTIALS))


def _with_flags(
    command: Callable[..., None],
    replaced: str,
    made_of: Callable[..., Server],
    flags: Sequence[inspect.Parameter],
) -> Callable[..., None]:
    @functools.wraps(command)
    def run(**given: Any) -> None:
        settings = {flag.name: given.pop(flag.name) for flag in flags}
        command(**given, **{replaced: made_of(**settings)})

    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != replaced
    ]
    parameters = [*own, *flags]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _shown(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags with the key in the place of its file."""
    return {name: value for name, value in flags.items() if name != "key_file"} | {
        "key": _key(flags["key_file"])
    }


@contextmanager
def _unusable_flags() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@contextmanager
def server_failures() -> Iterator[None]:
    """Errors of the client as ServerError."""
    from serving.client.errors import ServiceError

    try:
        yield
    except ServiceError as error:
        raise ServerError(with_hint(error.message), error.reason or error.code.name) from error


def explain_missing(error: ModuleNotFoundError) -> None:
    """Raise ServerError that says what to install, unless the missing module is a bug of ours."""
    if (error.name or "").split(".")[0] in _LIBRARIES_OF_SERVING:
        raise ServerError(f"{error.name} is missing: install tessera[serve]", "NOT_INSTALLED") from error


def _flag(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


_TARGET = _flag("target", Target, DEFAULT_TARGET)
_TIMEOUT = _flag("timeout", Timeout, 30.0)
_CREDENTIALS = (
    _flag("key_file", KeyFile, None),
    _flag("tls", Tls, False),
    _flag("ca_file", CaFile, None),
    _flag("client_cert", ClientCert, None),
    _flag("client_key", ClientKey, None),
    _flag("server_name", ServerName, None),
)


def _key(path: Path | None) -> str | None:
    """A key is never on the command line, where every user of the machine reads it."""
    try:
        data = read_file(path)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if data is None:
        return os.environ.get(KEY_VARIABLE) or None
    return data.decode("utf-8", "replace").strip()
