"""Certificates named by flags -> credentials of a channel. Imports grpc only where TLS is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


def channel_credentials(
    tls: bool, ca_file: Path | None, client_cert: Path | None, client_key: Path | None
) -> grpc.ChannelCredentials | None:
    """None where nothing asks for TLS. Raises ValueError that names the flag or the file at fault."""
    if (client_cert is None) != (client_key is None):
        raise ValueError("--client-cert and --client-key belong together")
    if not tls and ca_file is None and client_cert is None:
        return None
    import grpc

    return grpc.ssl_channel_credentials(
        root_certificates=read_file(ca_file),
        private_key=read_file(client_key),
        certificate_chain=read_file(client_cert),
    )


def read_file(path: Path | None) -> bytes | None:
    """All bytes. Raises ValueError that names the file."""
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
