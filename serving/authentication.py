"""Whose RPC is this, and may they? Looks at a method and its metadata alone, before any message is read.

authorization: Bearer tsr_...  ──  Unauthenticated TOKEN_MISSING | TOKEN_INVALID | TOKEN_EXPIRED
                               ──  ScopeMissing
                               ──  RateLimited, where the key has spent its pictures

A bulk stream may be open for hours, so its key is looked up again with each item: `check_key_again`.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import partial

import structlog

from serving import rate_limit
from serving.api_keys import KEY_PATTERN, ApiKey, Scope, hash_of
from serving.metrics.security import SecurityMetrics
from serving.metrics.server import Rpc
from serving.metrics.sets import BULK_METHODS
from serving.rate_limit import Allowance, KeyBudget, RateLimits
from serving.status import ScopeMissing, Unauthenticated

AUTHORIZATION_KEY = "authorization"
_SCHEME = "bearer "

_EXEMPT_SERVICES = ("grpc.health.v1.Health",)
_REFLECTION_PREFIX = "grpc.reflection."
_SERVICE_SCOPES = {"tessera.v1.ModelService": Scope.INFO}
_METHOD_SCOPES = {
    "Encode": Scope.ENCODE,
    "EncodeStream": Scope.ENCODE,
    "EncodeMany": Scope.ENCODE,
    "Decode": Scope.DECODE,
    "DecodeStream": Scope.DECODE,
    "DecodeMany": Scope.DECODE,
    "Truncate": Scope.TRUNCATE,
}


class Authenticator:
    """Lets callers in by their key. `keys` gives those in force; they may change at any time."""

    def __init__(
        self,
        keys: Callable[[], tuple[ApiKey, ...]],
        rpcs: Mapping[str, Rpc],
        default_limits: RateLimits,
        metrics: SecurityMetrics,
        *,
        open_reflection: bool,
        on_rate_limited: Callable[[str, str], None],
    ) -> None:
        self._keys = keys
        self._scopes = {path: _scope_of(rpc) for path, rpc in rpcs.items()}
        self._exempt = {path for path, rpc in rpcs.items() if _is_exempt(rpc, open_reflection)}
        self._rpcs = rpcs
        self._default_limits = default_limits
        self._metrics = metrics
        self._on_rate_limited = on_rate_limited
        self._budgets: dict[str, KeyBudget] = {}
        self._budgeted: tuple[ApiKey, ...] = ()

    def admit(self, path: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Let this RPC in, and bind who pays for it to the task. Raises StatusError.

        Methods that do not exist need a key, too, so that nobody without one learns which do.
        """
        rate_limit.begin(None)
        _check.set(None)
        if path in self._exempt:
            return
        digest = self._digest_in(metadata)
        key = self._let_in(path, digest)
        _check.set(partial(self._let_in, path, digest))
        scope = self._scopes.get(path)
        if scope is Scope.INFO:
            rate_limit.begin(None, self._limits_of(key))
        elif scope is not None:
            self._charge(path, key)

    def _digest_in(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
        """The hash of the token that was sent; None for what cannot be one of ours."""
        given = [value for name, value in metadata or () if name == AUTHORIZATION_KEY]
        if not given:
            self._metrics.auth_failed("missing")
            raise Unauthenticated("send the metadata 'authorization: Bearer <key>'", reason="TOKEN_MISSING")
        token = _bearer(given[0]) if len(given) == 1 else None
        return None if token is None else hash_of(token)

    def _let_in(self, path: str, digest: str | None) -> ApiKey:
        """The entry of this hash, if it is good for this method now."""
        key = self._entry_of(digest)
        structlog.contextvars.bind_contextvars(key=key.name)
        scope = self._scopes.get(path)
        if scope is not None and scope not in key.scopes:
            self._metrics.auth_failed("scope")
            raise ScopeMissing(f"this key lacks the scope {scope.value!r}", metadata={"scope": scope.value})
        return key

    def _entry_of(self, digest: str | None) -> ApiKey:
        key = self._find(digest)
        if key is None:
            self._metrics.auth_failed("invalid")
            raise Unauthenticated("this is no key of this server", reason="TOKEN_INVALID")
        if key.has_expired:
            self._metrics.auth_failed("expired")
            raise Unauthenticated("this key has expired", reason="TOKEN_EXPIRED")
        return key

    def _find(self, digest: str | None) -> ApiKey | None:
        """The entry of this hash. Every entry is compared, whole: time tells nothing about them."""
        if digest is None:
            return None
        found = None
        for key in self._keys():
            if hmac.compare_digest(digest, key.sha256):
                found = key
        return found

    def _charge(self, path: str, key: ApiKey) -> None:
        method = self._rpcs[path][2]
        allowance = Allowance(
            method,
            partial(self._budget_of, key),
            is_bulk=method in BULK_METHODS,
            on_refusal=lambda name: self._on_rate_limited(name, "rate_limit"),
        )
        rate_limit.begin(allowance, self._limits_of(key))
        allowance.enter()

    def _budget_of(self, key: ApiKey) -> KeyBudget:
        keys = self._keys()
        if keys is not self._budgeted:
            self._follow(keys)
        # A reload may have dropped the key since it was let in: what it has in work costs it nothing more.
        return self._budgets.get(key.sha256) or KeyBudget(self._limits_of(key))

    def _follow(self, keys: tuple[ApiKey, ...]) -> None:
        """Buckets for these keys; what is spent stays spent where the limits are as before."""
        old, self._budgets, self._budgeted = self._budgets, {}, keys
        for key in keys:
            limits = self._limits_of(key)
            before = old.get(key.sha256)
            same = before is not None and before.limits == limits
            self._budgets[key.sha256] = before if before is not None and same else KeyBudget(limits)

    def _limits_of(self, key: ApiKey) -> RateLimits:
        default = self._default_limits
        return RateLimits(
            key.pictures_per_s if key.pictures_per_s is not None else default.pictures_per_s,
            key.megapixels_per_s if key.megapixels_per_s is not None else default.megapixels_per_s,
            key.burst_s if key.burst_s is not None else default.burst_s,
        )


# Of the RPC whose task this is, and of the tasks that it starts.
_check: ContextVar[Callable[[], ApiKey] | None] = ContextVar("tessera_key_check", default=None)


def check_key_again() -> None:
    """Whether the key of this RPC would be let in now, too. Raises Unauthenticated or ScopeMissing."""
    if (check := _check.get()) is not None:
        check()


def _bearer(value: str | bytes) -> str | None:
    """The key in `Bearer <key>` if it looks like one of ours; the scheme's case does not count (RFC 7235)."""
    if not isinstance(value, str) or value[: len(_SCHEME)].lower() != _SCHEME:
        return None
    token = value[len(_SCHEME) :].strip(" ")
    return token if KEY_PATTERN.fullmatch(token) else None


def _is_exempt(rpc: Rpc, open_reflection: bool) -> bool:
    service = rpc[1]
    return service in _EXEMPT_SERVICES or (open_reflection and service.startswith(_REFLECTION_PREFIX))


def _scope_of(rpc: Rpc) -> Scope | None:
    """What a key needs for this RPC; None: any key will do. A new RPC of ours must be listed above."""
    _, service, method = rpc
    if service.startswith("grpc."):
        return None
    return _SERVICE_SCOPES[service] if service in _SERVICE_SCOPES else _METHOD_SCOPES[method]
