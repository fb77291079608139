"""What load to make: which calls, how many, how long, how fast. Sends nothing.

A closed loop is N clients of which each sends its next call when the last one was answered: a slow server
gets less load. An open loop sends at times that are fixed in advance, as the public does, and counts each
latency from the time at which the call was due: a server that stalls cannot hide it by stopping the clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

MAX_CLIENTS = 10_000
MAX_RATE_PER_S = 100_000.0
MAX_DURATION_S = 86_400.0


class InvalidLoad(ValueError):
    """A load that makes no sense."""


class RpcKind(Enum):
    """Calls that can be mixed."""

    ENCODE = "encode"
    ENCODE_STREAM = "encode_stream"
    DECODE = "decode"
    DECODE_STREAM = "decode_stream"
    TRUNCATE = "truncate"
    ENCODE_MANY = "encode_many"
    DECODE_MANY = "decode_many"


BULK_KINDS = frozenset({RpcKind.ENCODE_MANY, RpcKind.DECODE_MANY})
"""One call is one stream of items, and every item counts by itself."""

ITEMS_PER_STREAM = 32
"""Long enough that filling and emptying the window is a small part of a stream."""

WINDOW_ITEMS = 8
"""Items of one stream in work at once; what TokenizerClient takes where the server tells no window."""


class Arrivals(Enum):
    """When the calls of an open loop are due."""

    POISSON = "poisson"
    """Independent callers: exponential gaps, so calls come in clusters."""

    CONSTANT = "constant"
    """Equal gaps."""


Mix = Mapping[RpcKind, float]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One run. Exactly one of `clients` (closed loop) and `rate_per_s` (open loop) is set.

    >>> LoadPlan("localhost:50051", clients=4).is_open
    False
    """

    target: str
    clients: int | None = None
    rate_per_s: float | None = None
    arrivals: Arrivals = Arrivals.POISSON
    duration_s: float = 30.0
    warm_up_s: float = 0.0
    """Sent before `duration_s` begins, and left out of the report."""

    mix: Mix = field(default_factory=lambda: {RpcKind.ENCODE: 1.0})
    deadline_s: float = 10.0
    """Of each call, or of each item from when it is sent. There always is one, so that a run ends."""

    slo_s: float | None = None
    """A call counts as good if it is answered OK within this time; without, goodput is not reported."""

    connections: int = 4
    retries: bool = False
    """Send with the service config of TokenizerClient, which repeats refused calls. Else each call is sent
    once, so that every refusal is seen."""

    seed: int = 0

    def __post_init__(self) -> None:
        if (self.clients is None) == (self.rate_per_s is None):
            raise InvalidLoad("give a number of clients (closed loop) or a rate (open loop), and not both")
        if self.clients is not None and not 1 <= self.clients <= MAX_CLIENTS:
            raise InvalidLoad(f"clients must be 1..{MAX_CLIENTS}, got {self.clients}")
        if self.rate_per_s is not None:
            _check_range("rate", self.rate_per_s, MAX_RATE_PER_S)
        _check_range("duration", self.duration_s, MAX_DURATION_S)
        if not 0 <= self.warm_up_s <= MAX_DURATION_S:
            raise InvalidLoad(f"warm-up must be 0..{MAX_DURATION_S:g} s, got {self.warm_up_s:g}")
        _check_range("deadline", self.deadline_s, 3600)
        if self.slo_s is not None:
            _check_range("slo", self.slo_s, 3600)
            if self.slo_s > self.deadline_s:
                raise InvalidLoad(
                    f"an SLO of {self.slo_s:g} s is beyond the deadline of {self.deadline_s:g} s"
                )
        if not 1 <= self.connections <= MAX_CLIENTS:
            raise InvalidLoad(f"connections must be 1..{MAX_CLIENTS}, got {self.connections}")
        check_mix(self.mix)

    @property
    def is_open(self) -> bool:
        """True for an open loop."""
        return self.rate_per_s is not None

    @property
    def end_s(self) -> float:
        """When the last call is sent, from the start."""
        return self.warm_up_s + self.duration_s


def parse_mix(text: str) -> Mix:
    """`encode=3,decode=1` as weights. Raises InvalidLoad.

    >>> {kind.value: weight for kind, weight in parse_mix("encode=3,decode").items()}
    {'encode': 3.0, 'decode': 1.0}
    """
    mix: dict[RpcKind, float] = {}
    for part in text.split(","):
        name, equals, weight = part.strip().partition("=")
        kind = _kind(name.strip())
        if kind in mix:
            raise InvalidLoad(f"{kind.value} stands twice in the mix")
        mix[kind] = _weight(weight) if equals else 1.0
    check_mix(mix)
    return mix


def check_mix(mix: Mix) -> None:
    """Raises InvalidLoad unless some call has a weight above 0 and none is negative or endless."""
    if not all(0 <= weight < math.inf for weight in mix.values()) or not sum(mix.values()):
        raise InvalidLoad("the weights of a mix must be finite, none below 0 and one above 0")


def _kind(name: str) -> RpcKind:
    try:
        return RpcKind(name)
    except ValueError:
        known = ", ".join(kind.value for kind in RpcKind)
        raise InvalidLoad(f"no call is named {name!r}; known: {known}") from None


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidLoad(f"a weight must be a number, got {text!r}") from None


def _check_range(name: str, value: float, most: float) -> None:
    if not 0 < value <= most:
        raise InvalidLoad(f"{name} must be above 0 and at most {most:g}, got {value:g}")
