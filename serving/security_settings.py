"""Settings of who may call, and how pictures of strangers are decoded. A part of ServingConfig."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings


class SecuritySettings(BaseSettings):
    """Everything is off by default; contradictions are refused."""

    tls_cert_file: Path | None = Field(
        None, description="PEM certificate chain of the RPC port, ours first; turns TLS on."
    )
    tls_key_file: Path | None = Field(None, description="PEM private key of the same, not encrypted.")
    tls_client_ca_file: Path | None = Field(
        None, description="PEM certificates of which one must have signed a client's; turns mTLS on."
    )
    auth_keys_file: Path | None = Field(
        None, description="TOML file with the hashes of the keys that may call; turns keys on."
    )
    allow_insecure_keys: bool = Field(
        False, description="Take keys without TLS on any address: something in front must encrypt."
    )
    open_reflection: bool = Field(False, description="With keys: answer reflection to callers without one.")
    security_reload_interval_s: float = Field(
        5.0, gt=0, le=3600, description="How often the keys and TLS files are looked at."
    )
    rate_limit_pictures_per_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Pictures per second of a key that has no own limit."
    )
    rate_limit_megapixels_per_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Megapixels per second of a key that has no own limit."
    )
    rate_limit_burst_s: float = Field(
        5.0, gt=0, le=3600, description="How many seconds' worth of its rates a key may spend at once."
    )
    decode_isolation: Literal["thread", "process"] = Field(
        "thread", description="Where picture files are decoded; process confines what a hostile one can do."
    )
    decode_timeout_s: float = Field(
        10.0, gt=0, le=600, description="With process isolation: longest time to decode one picture."
    )

    @model_validator(mode="after")
    def _check_security_is_whole(self) -> Self:
        """Refuse half of a protection: it looks like one, and is none."""
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file: only TLS asks for certificates")
        if self.auth_keys_file is None:
            for name in ("rate_limit_pictures_per_s", "rate_limit_megapixels_per_s"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is per key and needs auth_keys_file")
            for name in ("allow_insecure_keys", "open_reflection"):
                if getattr(self, name):
                    raise ValueError(f"{name} means nothing without auth_keys_file")
        return self

    def check_exposure(self, host: str) -> None:
        """Raises ValueError if keys would cross a network in the clear."""
        keys_in_clear = self.auth_keys_file is not None and self.tls_cert_file is None
        if keys_in_clear and not self.allow_insecure_keys and not is_loopback(host):
            raise ValueError(
                f"auth_keys_file without TLS on host {host}: everybody on the way could read the keys. Set "
                "tls_cert_file and tls_key_file, or allow_insecure_keys if something in front encrypts"
            )


def is_loopback(host: str) -> bool:
    """True if only this machine can reach the address.

    >>> is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
