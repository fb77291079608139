"""TLS of the RPC port: a certificate, its key and perhaps the CA of clients, replaced while we run.

gRPC asks for the certificate at each new connection, so open connections are left alone. It speaks TLS 1.2
and 1.3 only. Parsed with `cryptography`, so that gRPC never gets a pair that does not belong together: it
would refuse every connection from then on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from serving.reloaded_files import ReloadedFiles, SetupError

# Tried: with Ed25519 or P-521 no client of gRPC finishes a handshake.
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """A key, the certificates it belongs to, and the CA that clients must be signed by, if any."""

    key_pem: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    client_ca_pem: bytes | None = field(repr=False)
    not_after_s: float
    """Unix time at which the first certificate of the chain expires."""

    def configuration(self) -> Any:
        """The same for gRPC."""
        return grpc.ssl_server_certificate_configuration(
            [(self.key_pem, self.chain_pem)], root_certificates=self.client_ca_pem
        )


class TlsFiles:
    """Follows the files, and hands gRPC the newest good identity."""

    def __init__(
        self,
        cert_file: Path,
        key_file: Path,
        client_ca_file: Path | None,
        report: Callable[[bool], None] = lambda _taken: None,
    ) -> None:
        """Raises SetupError if the files are no good."""
        paths = [cert_file, key_file, *([client_ca_file] if client_ca_file else [])]
        self._files = ReloadedFiles("TLS files", paths, parse_identity, report)
        self._served = self._files.value
        self._needs_client_certificate = client_ca_file is not None

    @property
    def not_after_s(self) -> float:
        """When the certificate in use expires."""
        return self._files.value.not_after_s

    @property
    def is_current(self) -> bool:
        """False while the files are no good."""
        return self._files.is_current

    def refresh(self) -> None:
        """Look at the files, also if no client connects."""
        self._files.refresh(retry=True)

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`; follows the files from then on."""
        credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._served.configuration(), self._changed_configuration, self._needs_client_certificate
        )
        return credentials

    def _changed_configuration(self) -> Any:
        """Called by gRPC in a thread of its own, at each new connection; None means no change."""
        self._files.refresh()
        identity = self._files.value
        if identity is self._served:
            return None
        self._served = identity
        return identity.configuration()


def parse_identity(files: tuple[bytes, ...]) -> TlsIdentity:
    """Certificates, key and, as a third file, the CA of clients. Raises SetupError."""
    chain_pem, key_pem, *client_ca_pem = files
    chain = _certificates(chain_pem, "the certificate file")
    key = _private_key(key_pem)
    if chain[0].public_key() != key.public_key():
        raise SetupError("the private key does not belong to the first certificate of the certificate file")
    not_after_s = min(certificate.not_valid_after_utc.timestamp() for certificate in chain)
    if not_after_s <= time.time():
        raise SetupError(f"the certificate expired at {_iso(not_after_s)}")
    if client_ca_pem:
        _certificates(client_ca_pem[0], "the client CA file")
    return TlsIdentity(key_pem, chain_pem, client_ca_pem[0] if client_ca_pem else None, not_after_s)


def _certificates(pem: bytes, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise SetupError(f"{what} holds no PEM certificate, or a damaged one") from error


def _private_key(pem: bytes) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise SetupError("the private key is encrypted; store it decrypted, readable by us only") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SetupError("the key file holds no PEM private key, or a damaged one") from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    raise SetupError(f"the private key must be RSA of at least {_MIN_RSA_BITS} bits, or ECDSA P-256 or P-384")


def _iso(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
