"""Keys and TLS of one server: opens both, follows their files, and puts the RPC port behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from serving.api_keys import ApiKey, parse_keys
from serving.authentication import Authenticator
from serving.metrics.security import Registry, SecurityMetrics
from serving.metrics.server import Rpc
from serving.rate_limit import RateLimits
from serving.reloaded_files import ReloadedFiles
from serving.security_settings import SecuritySettings, is_loopback
from serving.tls import TlsFiles

_log = structlog.get_logger("tessera.security")


class Security:
    """What stands between a network and the RPCs of one server."""

    def __init__(
        self,
        settings: SecuritySettings,
        registry: Registry,
        rpcs: Mapping[str, Rpc],
        on_rate_limited: Callable[[str, str], None],
    ) -> None:
        """Opens nothing yet: files are read in `open`."""
        self._settings = settings
        self._rpcs = rpcs
        self._on_rate_limited = on_rate_limited
        self.metrics = SecurityMetrics(
            registry,
            has_tls=settings.tls_cert_file is not None,
            has_keys=settings.auth_keys_file is not None,
        )
        self.authenticator: Authenticator | None = None
        self._tls: TlsFiles | None = None
        self._keys: ReloadedFiles[tuple[ApiKey, ...]] | None = None
        self._following: asyncio.Task[None] | None = None

    def open(self, host: str) -> None:
        """Read the files. Raises SetupError if one is no good."""
        settings = self._settings
        if settings.tls_cert_file is not None and settings.tls_key_file is not None:
            self._tls = self._open_tls(settings.tls_cert_file, settings.tls_key_file)
        if settings.auth_keys_file is not None:
            self._keys = self._open_keys(settings.auth_keys_file)
            self.authenticator = self._authenticator(self._keys)
        if self._tls is None and self._keys is None and not is_loopback(host):
            _log.warning("neither TLS nor keys: whoever reaches this address may call", host=host)

    def add_port(self, server: Any, address: str) -> int:
        """Bind the address, with TLS if there is any; the port that was bound. Raises RuntimeError."""
        if self._tls is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, self._tls.credentials()))

    def follow(self) -> None:
        """Look at the files now and then; needs a running event loop."""
        if self._tls is not None or self._keys is not None:
            self._following = asyncio.create_task(self._follow(), name="security-files")

    async def stop(self) -> None:
        """Look no more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._settings.security_reload_interval_s)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Take over what changed in the files."""
        if self._tls is not None:
            self._tls.refresh()
        if self._keys is not None:
            self._keys.refresh(retry=True)

    def _open_tls(self, cert_file: Path, key_file: Path) -> TlsFiles:
        def changed(taken: bool) -> None:
            self.metrics.tls_changed(tls.not_after_s, taken=taken)

        tls = TlsFiles(cert_file, key_file, self._settings.tls_client_ca_file, changed)
        self.metrics.tls_expires(tls.not_after_s)
        self.metrics.follow_files("certificates", lambda: tls.is_current)
        return tls

    def _open_keys(self, file: Path) -> ReloadedFiles[tuple[ApiKey, ...]]:
        def changed(taken: bool) -> None:
            self.metrics.keys_changed(len(keys.value), taken=taken)

        keys = ReloadedFiles("keys file", [file], parse_keys, changed)
        self.metrics.keys_loaded(len(keys.value))
        self.metrics.follow_files("keys", lambda: keys.is_current)
        return keys

    def _authenticator(self, keys: ReloadedFiles[tuple[ApiKey, ...]]) -> Authenticator:
        settings = self._settings
        limits = RateLimits(
            settings.rate_limit_pictures_per_s,
            settings.rate_limit_megapixels_per_s,
            settings.rate_limit_burst_s,
        )
        return Authenticator(
            lambda: keys.value,
            self._rpcs,
            limits,
            self.metrics,
            open_reflection=settings.open_reflection,
            on_rate_limited=self._on_rate_limited,
        )
