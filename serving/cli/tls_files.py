"""Certificates named by flags -> how to reach a server. Knows no commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.client_credentials import ClientTls


def client_tls(
    tls: bool,
    ca_file: Path | None,
    client_cert: Path | None,
    client_key: Path | None,
    server_name: str | None,
) -> ClientTls | None:
    """None where nothing asks for TLS. Raises ValueError that names the flag at fault."""
    if (client_cert is None) != (client_key is None):
        raise ValueError("--client-cert and --client-key belong together")
    if not tls and ca_file is None and client_cert is None and server_name is None:
        return None
    from serving.client_credentials import ClientTls

    return ClientTls(ca_file, client_cert, client_key, server_name)


def read_file(path: Path | None) -> bytes | None:
    """All bytes. Raises ValueError that names the file."""
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
