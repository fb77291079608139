"""Certificates made on the fly, and the files they go into. For tests only."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as objects and as PEM."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def cert_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def not_after_s(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()

    def issue(self, name: str, *, days: float = 30) -> Issued:
        """A certificate for localhost and 127.0.0.1, signed by this one."""
        return _issue(name, self, days)


def authority(name: str = "test CA") -> Issued:
    """A certificate that signs others."""
    return _issue(name, None, 365)


def _issue(name: str, issuer: Issued | None, days: float) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


@dataclass(frozen=True)
class TlsFolder:
    """The files that a server is pointed at."""

    folder: Path

    @property
    def cert(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def client_ca(self) -> Path:
        return self.folder / "client-ca.pem"

    def settings(self, *, mutual: bool = False) -> dict[str, Path]:
        files = {"tls_cert_file": self.cert, "tls_key_file": self.key}
        return files | ({"tls_client_ca_file": self.client_ca} if mutual else {})

    def put(self, issued: Issued) -> None:
        """Replace both files, each at once, as a secret manager does."""
        for path, data in ((self.cert, issued.cert_pem), (self.key, issued.key_pem)):
            draft = path.with_suffix(".tmp")
            draft.write_bytes(data)
            draft.replace(path)
