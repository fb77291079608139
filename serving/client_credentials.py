"""What a client shows a server, and whom it believes: TLS and a key. Knows no RPCs; needs grpc only.

with TLS       the key rides in the credentials of the channel, so no call can forget it
without TLS    the key would cross the network in the clear: refused, except to this machine
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

_KEY_PATTERN = re.compile(r"[!-~]{1,512}")


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to reach a server over TLS; all fields are optional.

    >>> ClientTls(ca_file=Path("ca.pem")).server_name is None
    True
    """

    ca_file: Path | None = None
    """PEM certificates to believe; None: those that gRPC ships, for servers with a public certificate."""

    certificate_file: Path | None = None
    """PEM chain of our own certificate, for servers that ask for one (mTLS)."""

    key_file: Path | None = None
    """PEM private key of the same."""

    server_name: str | None = None
    """Name that the certificate must carry, where it is not the one in the target."""

    def __post_init__(self) -> None:
        """Raises ValueError for half a pair."""
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")


@dataclass(frozen=True, slots=True)
class Access:
    """Arguments of a channel and of each call. `metadata` goes with every call on the channel."""

    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, Any], ...] = ()
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def channel(self, target: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        """A channel with these credentials."""
        together = [*options, *self.options]
        if self.credentials is None:
            return grpc.insecure_channel(target, together)
        return grpc.secure_channel(target, self.credentials, together)

    def aio_channel(self, target: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.aio.Channel:
        """The same for asyncio."""
        together = [*options, *self.options]
        if self.credentials is None:
            return grpc.aio.insecure_channel(target, together)
        return grpc.aio.secure_channel(target, self.credentials, together)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, before it is known which address: plain values, which travel between processes."""

    key: str | None = field(default=None, repr=False)
    tls: ClientTls | None = None

    def access_to(self, target: str) -> Access:
        """What this caller needs to call `target`; raises what `access_to` raises."""
        return access_to(target, key=self.key, tls=self.tls)


ANYBODY = Caller()
"""Shows no key and speaks in the clear."""


def access_to(
    target: str, *, key: str | None = None, tls: ClientTls | None = None, allow_insecure_key: bool = False
) -> Access:
    """What a client needs to call `target` with this key and TLS.

    Raises ValueError for a key that is none or would travel in the clear, OSError for files that cannot be
    read. No error shows the key.
    """
    if key is not None and not _KEY_PATTERN.fullmatch(key):
        raise ValueError("the key is empty, too long, or has spaces or signs beyond ASCII")
    if tls is None:
        return _in_clear(target, key, allow_insecure_key)
    credentials = _transport(tls)
    if key is not None:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(key))
    name = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()
    return Access(credentials, name)


def _in_clear(target: str, key: str | None, allow_insecure_key: bool) -> Access:
    if key is None:
        return Access(None)
    if not (allow_insecure_key or _stays_here(target)):
        raise ValueError(f"a key to {target} without TLS could be read on the way: give tls=ClientTls(...)")
    return Access(None, metadata=(("authorization", f"Bearer {key}"),))


def _transport(tls: ClientTls) -> grpc.ChannelCredentials:
    ca_pem, key_pem, chain_pem = (
        path.read_bytes() if path is not None else None
        for path in (tls.ca_file, tls.key_file, tls.certificate_file)
    )
    return grpc.ssl_channel_credentials(ca_pem, key_pem, chain_pem)


def _stays_here(target: str) -> bool:
    """True if the target is an address of this machine: `localhost:1`, `ipv4:127.0.0.1:1`, `unix:/path`."""
    if "," in target:  # a list of addresses, of which any may be far
        return False
    name = re.sub(r"^(dns:(///)?|ipv[46]:)", "", target)
    host = name[1 : name.index("]")] if name.startswith("[") and "]" in name else name.rpartition(":")[0]
    if (host or name) == "localhost" or name.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host or name).is_loopback
    except ValueError:
        return False
