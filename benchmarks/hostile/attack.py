"""Send hostile requests and judge the answers: a result or a typed refusal, in time, and nothing else.

cases ──> workers, each with one RPC in flight ──> Verdict: codes, reasons, and every breach
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

STATUS_DETAILS_KEY = "grpc-status-details-bin"
# What hostile bytes may be answered with. RESOURCE_EXHAUSTED: the queue may be full of them.
ALLOWED = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
# The largest legal picture takes seconds on one core; an answer that takes longer is a hang.
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC by its path."""

    path: str
    request_streams: bool
    reply_streams: bool


@dataclass(frozen=True, slots=True)
class Case:
    """What to send: raw bytes of one message, or of several where the request is a stream."""

    label: str
    method: Method
    messages: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Breach:
    """An answer that must not be."""

    case: Case
    answer: str


@dataclass(slots=True)
class Verdict:
    """What came back from all cases."""

    codes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    breaches: list[Breach] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many cases were answered."""
        return self.codes.total()


async def attack(target: str, cases: Iterable[Case], *, workers: int = 4) -> Verdict:
    """Send all cases, `workers` at a time."""
    verdict, waiting = Verdict(), iter(cases)
    options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target, options) as channel:
        await asyncio.gather(*(_work(channel, waiting, verdict) for _ in range(workers)))
    return verdict


async def _work(channel: grpc.Channel, waiting: Iterator[Case], verdict: Verdict) -> None:
    for case in waiting:
        try:
            await asyncio.to_thread(_send, channel, case)
        except grpc.RpcError as error:
            _judge(case, error, verdict)
        else:
            verdict.codes["OK"] += 1


def _send(channel: grpc.Channel, case: Case) -> None:
    """One RPC to its end; replies are read and dropped.

    In a thread: an asyncio call whose stream the server ends while it writes reports INTERNAL of its own.
    """
    method = case.method
    kind = f"{_word(method.request_streams)}_{_word(method.reply_streams)}"
    call = getattr(channel, kind)(method.path)
    request = iter(case.messages) if method.request_streams else case.messages[0]
    answer = call(request, timeout=TIMEOUT_S)
    if method.reply_streams:
        for _ in answer:
            pass


def _word(streams: bool) -> str:
    return "stream" if streams else "unary"


def _judge(case: Case, error: Any, verdict: Verdict) -> None:
    code = error.code()
    verdict.codes[code.name] += 1
    reason = _reason(error)
    verdict.reasons[reason or "(none)"] += 1
    # gRPC itself refuses a message above the size limit, without details.
    is_bare = not reason and code is not grpc.StatusCode.RESOURCE_EXHAUSTED
    if code not in ALLOWED or is_bare:
        verdict.breaches.append(Breach(case, f"{code.name} {reason}: {error.details()}"))


def _reason(error: Any) -> str:
    raw = dict(error.trailing_metadata() or ()).get(STATUS_DETAILS_KEY, b"")
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(raw).details:
        if detail.Unpack(info):
            return info.reason if info.domain == "tessera.v1" else ""
    return ""
