"""Who was turned away, whether keys and certificates are current, and which decoders died."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

Registry = CollectorRegistry
AUTH_FAILURES = ("missing", "invalid", "expired", "scope")


class SecurityMetrics:
    """All series are there from the start; those of TLS and keys only where the server has them.

    A certificate gauge of 0 without TLS would look like one that expired in 1970.
    """

    def __init__(self, registry: CollectorRegistry, *, has_tls: bool, has_keys: bool) -> None:
        self._auth_failures = Counter(
            "tessera_auth_failures_total", "RPCs without a good key.", ["reason"], registry=registry
        )
        self._worker_restarts = Counter(
            "tessera_worker_restarts_total", "Worker processes replaced.", ["pool"], registry=registry
        )
        self._last_reload_successful = Gauge(
            "tessera_security_files_last_reload_successful",
            "1 if the files are what is in force, 0 while they are no good.",
            ["files"],
            registry=registry,
        )
        for reason in AUTH_FAILURES:
            self._auth_failures.labels(reason)
        self._worker_restarts.labels("decode")
        if has_tls:
            self._declare_tls(registry)
        if has_keys:
            self._declare_keys(registry)

    def auth_failed(self, reason: str) -> None:
        """An RPC was turned away: missing, invalid, expired or scope."""
        self._auth_failures.labels(reason).inc()

    def worker_restarted(self, pool: str) -> None:
        """A process died and another takes its place."""
        self._worker_restarts.labels(pool).inc()

    def follow_files(self, files: str, is_current: Callable[[], bool]) -> None:
        """Show from now on, at each scrape, whether these files (certificates or keys) are in force."""
        self._last_reload_successful.labels(files).set_function(is_current)

    def tls_changed(self, not_after_s: float, *, taken: bool) -> None:
        """New TLS files: taken over, or left because they are no good."""
        (self._tls_rotations if taken else self._tls_failures).inc()
        self.tls_expires(not_after_s)

    def tls_expires(self, not_after_s: float) -> None:
        """The certificate in use is good until then."""
        self._tls_not_after.set(not_after_s)

    def keys_changed(self, count: int, *, taken: bool) -> None:
        """A new keys file: taken over, or left because it is no good."""
        (self._key_reloads if taken else self._key_failures).inc()
        self.keys_loaded(count)

    def keys_loaded(self, count: int) -> None:
        """So many keys are in force."""
        self._keys.set(count)

    def _declare_tls(self, registry: CollectorRegistry) -> None:
        self._tls_not_after = Gauge(
            "tessera_tls_certificate_not_after_timestamp_seconds",
            "When the first certificate of the chain in use expires.",
            registry=registry,
        )
        self._tls_rotations = Counter(
            "tessera_tls_rotations_total", "TLS files taken over while serving.", registry=registry
        )
        self._tls_failures = Counter(
            "tessera_tls_rotation_failures_total",
            "Changes of the TLS files that were no good.",
            registry=registry,
        )

    def _declare_keys(self, registry: CollectorRegistry) -> None:
        self._keys = Gauge("tessera_auth_keys", "Keys in force, expired ones included.", registry=registry)
        self._key_reloads = Counter(
            "tessera_auth_keys_reloads_total", "Keys files taken over while serving.", registry=registry
        )
        self._key_failures = Counter(
            "tessera_auth_keys_reload_failures_total",
            "Changes of the keys file that were no good.",
            registry=registry,
        )
