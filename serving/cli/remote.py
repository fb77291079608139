"""serve. grpc is imported when it runs, so that the rest starts fast."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from serving.cli.connection import explain_missing


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the RPCs; 0 takes a free one.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of /metrics; 0 takes a free one.")] = None,
    port_file: Annotated[
        Path | None, typer.Option(help="Write both ports there, as JSON, once ready.")
    ] = None,
    admin_port: Annotated[
        int | None, typer.Option(help="Port of AdminService, on this machine only; without it there is none.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Name of a shipped model, or a folder; several times for several, default first."),
    ] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Execution provider: cpu, cuda.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of one model call; 0 counts processors.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run the gRPC server until SIGTERM. Every setting also has a TESSERA_* variable; flags win."""
    given = {
        "host": host,
        "port": port,
        "metrics_port": metrics_port,
        "port_file": port_file,
        "admin_port": admin_port,
        "providers": tuple(provider) if provider else None,
        "num_threads": threads,
        "log_level": log_level,
    }
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if model:
        # Both, so that a flag also wins over the other of the two variables.
        settings |= {"model": None, "models": tuple(model)}
    raise typer.Exit(_serve(settings))


def _serve(given: dict[str, Any]) -> int:
    """Run the server with these settings on top of TESSERA_*; returns its exit code."""
    try:
        from pydantic import ValidationError
        from pydantic_settings import SettingsError

        from serving.config import ServingConfig
        from serving.invalid_settings import describe_invalid
        from serving.server import run
    except ModuleNotFoundError as error:
        explain_missing(error)
        raise
    try:
        config = ServingConfig(**given)
    except ValidationError as error:
        raise typer.BadParameter(describe_invalid(error)) from error
    except SettingsError as error:  # a variable that must be JSON and is not
        name = re.search(r'field "(\w+)"', str(error))
        where = f"TESSERA_{name[1].upper()}: " if name else ""
        raise typer.BadParameter(f"{where}must be a list as JSON, such as '[\"cpu\"]'") from error
    return run(config)
