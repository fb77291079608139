"""Who is let in: every odd token is refused alike, and every key is compared."""

from __future__ import annotations

import hmac
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from serving import authentication
from serving.api_keys import ApiKey, hash_of
from serving.authentication import Authenticator
from serving.metrics.security import AUTH_FAILURES, SecurityMetrics
from serving.rate_limit import RateLimits
from serving.served_rpcs import public_rpcs
from serving.status import ScopeMissing, StatusError, Unauthenticated

ENCODE = "/tessera.v1.TokenizerService/Encode"
# Fixed, since they are in the names of tests, which two processes must agree on.
KEYS = {
    name: f"tsr_{digit * 64}"
    for name, digit in (("first", "a"), ("second", "b"), ("third", "c"), ("old", "d"))
}
ENTRIES = tuple(
    ApiKey(
        name=name,
        sha256=hash_of(key),
        scopes=frozenset({"encode"}),
        expires="2020-01-01T00:00:00Z" if name == "old" else None,
    )
    for name, key in KEYS.items()
)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def authenticator(registry) -> Authenticator:
    return Authenticator(
        lambda: ENTRIES,
        public_rpcs(),
        RateLimits(None, None, 1.0),
        SecurityMetrics(registry, has_tls=False, has_keys=True),
        open_reflection=False,
        on_rate_limited=lambda method, reason: None,
    )


def refusal(authenticator: Authenticator, *values: str | bytes, path: str = ENCODE) -> StatusError:
    with pytest.raises(StatusError) as caught:
        authenticator.admit(path, [("authorization", value) for value in values])
    return caught.value


@pytest.mark.parametrize("name", ["first", "second", "third"])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_every_key_is_let_in_whatever_the_case_of_the_scheme(authenticator, name, scheme):
    authenticator.admit(ENCODE, [("user-agent", "x"), ("authorization", scheme + KEYS[name])])


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        KEYS["first"],
        "Basic " + KEYS["first"],
        "Bearer " + KEYS["first"].upper(),
        "Bearer " + KEYS["first"][:-1],
        "Bearer " + KEYS["first"] + "0",
        "Bearer " + KEYS["first"] + "\n",
        "Bearer " + KEYS["first"] + "\x00",
        "Bearer " + hash_of(KEYS["first"]),
        "Bearer tsr_" + "e" * 64,
        "Bearer tsr_" + "٣" * 64,
        "Bearer tsr_ключ🔑",
        "Bearer " + "a" * 8192,
        b"Bearer " + KEYS["first"].encode(),
        b"\xff\xfe",
    ],
)
def test_whatever_is_no_key_is_refused_in_the_same_words(authenticator, registry, value):
    error = refusal(authenticator, value)
    assert isinstance(error, Unauthenticated)
    assert (error.reason, str(error)) == ("TOKEN_INVALID", "this is no key of this server")
    assert registry.get_sample_value("tessera_auth_failures_total", {"reason": "invalid"}) == 1


def test_two_tokens_are_none(authenticator):
    good = f"Bearer {KEYS['first']}"
    assert refusal(authenticator, good, good).reason == "TOKEN_INVALID"


def test_missing_expired_and_scope_have_reasons_of_their_own(authenticator, registry):
    assert refusal(authenticator).reason == "TOKEN_MISSING"
    assert refusal(authenticator, f"Bearer {KEYS['old']}").reason == "TOKEN_EXPIRED"
    decode = "/tessera.v1.TokenizerService/Decode"
    error = refusal(authenticator, f"Bearer {KEYS['first']}", path=decode)
    assert isinstance(error, ScopeMissing) and error.metadata == {"scope": "decode"}
    values = [registry.get_sample_value("tessera_auth_failures_total", {"reason": r}) for r in AUTH_FAILURES]
    assert values == [1, 0, 1, 1]


def test_each_entry_is_compared_in_constant_time_wherever_the_match_is(authenticator, monkeypatch):
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(other)
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(authentication, "hmac", SimpleNamespace(compare_digest=compare))
    authenticator.admit(ENCODE, [("authorization", f"Bearer {KEYS['first']}")])
    assert compared == [entry.sha256 for entry in ENTRIES]


def test_health_needs_no_key_and_every_other_rpc_does(authenticator):
    open_to_all = set()
    for path in public_rpcs():
        try:
            authenticator.admit(path, None)
            open_to_all.add(path)
        except Unauthenticated as error:
            assert error.reason == "TOKEN_MISSING"
    assert open_to_all == {f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch")} & set(
        public_rpcs()
    )


def test_methods_that_do_not_exist_need_a_key(authenticator):
    assert refusal(authenticator, path="/no.Such/Method").reason == "TOKEN_MISSING"
    authenticator.admit("/no.Such/Method", [("authorization", f"Bearer {KEYS['first']}")])
