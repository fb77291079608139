"""One line per RPC, with its code and where its time went. Holds no text of a client but a checked id."""

from __future__ import annotations

import logging
import time
import zlib
from typing import Any

import grpc
import structlog

from serving.metrics.server import Rpc
from serving.status import WAIT_ESTIMATE_KEY, Failure
from serving.trace import Fact

# Probes and other people's reflection come several times a minute, and say nothing about the service.
_QUIET_PACKAGE = "grpc."
# What the metrics count well enough when there is too much of it.
_SHED_CODES = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE})
# The server, not the caller, is the reason.
_WARNING_CODES = frozenset(
    {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.DATA_LOSS,
    }
)
_ERROR_CODES = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})

_log: Any = structlog.get_logger("tessera.rpc")


class AccessLog:
    """Writes the lines; `sample` is the share of good and of shed RPCs that get one, all others always do.

    Of those that are shed at most `max_shed_per_s` a second.
    """

    def __init__(self, sample: float, max_shed_per_s: int) -> None:
        self._sample = sample
        self._shed = _LinesPerSecond(max_shed_per_s)

    def __call__(self, rpc: Rpc, request_id: str, _metadata: object) -> _Line:
        """Begin the line of this RPC."""
        return _Line(rpc, self._shed, is_sampled=_is_sampled(request_id, self._sample))


class _LinesPerSecond:
    """Bounds lines of one kind: a line takes a fifth of the time of a refusal, which an overload has not."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._count = 0
        self.left_out = 0
        """Lines since the last one that was written."""

    def may_write(self) -> bool:
        """Whether one more line may be written in this second; counted either way."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count > self._limit:
            self.left_out += 1
            return False
        return True


class _Line:
    trace_id = ""

    def __init__(self, rpc: Rpc, shed: _LinesPerSecond, *, is_sampled: bool) -> None:
        self._rpc = rpc
        self._shed = shed
        self._is_sampled = is_sampled
        self._seconds: dict[str, float] = {}
        self._facts: dict[str, Fact] = {}

    def stage(self, stage: str, seconds: float, **facts: Fact) -> None:
        """Add to the time of this stage."""
        key = f"{stage}_s"
        self._seconds[key] = self._seconds.get(key, 0.0) + seconds
        self._facts |= facts

    def note(self, **facts: Fact) -> None:
        """Show these on the line."""
        self._facts |= facts

    def ended(self, code: grpc.StatusCode, seconds: float, failure: Failure | None) -> None:
        """Write the line, unless it falls under the sampling."""
        is_shed = _is_shed(code, failure)
        if (is_shed or code is grpc.StatusCode.OK) and not self._is_sampled:
            return
        fields: dict[str, Fact | float] = {"service": self._rpc[1], "code": code.name}
        if is_shed:
            if not self._shed.may_write():
                return
            if self._shed.left_out:
                fields["left_out"], self._shed.left_out = self._shed.left_out, 0
        if failure is not None:
            # Not its message: that may quote what the client sent.
            fields["reason"] = failure.reason
            fields |= {key: failure.metadata[key] for key in ("bound", "error_id") if key in failure.metadata}
        times = {key: round(value, 6) for key, value in self._seconds.items()}
        _log.log(self._level(code), "handled", **fields, duration_s=round(seconds, 6), **times, **self._facts)

    def _level(self, code: grpc.StatusCode) -> int:
        if code in _ERROR_CODES:
            return logging.ERROR
        if self._rpc[1].startswith(_QUIET_PACKAGE):
            return logging.DEBUG
        return logging.WARNING if code in _WARNING_CODES else logging.INFO


def _is_shed(code: grpc.StatusCode, failure: Failure | None) -> bool:
    """Refused for want of room; a deadline that passed after the RPC was let in is something else."""
    return code in _SHED_CODES or (failure is not None and WAIT_ESTIMATE_KEY in failure.metadata)


def _is_sampled(request_id: str, share: float) -> bool:
    """The same verdict for one id on every server, so that a call through several shows up whole or not."""
    return zlib.crc32(request_id.encode()) < share * 2**32
