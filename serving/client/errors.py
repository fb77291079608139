"""What a call to a server can fail with, as one tree. Knows gRPC statuses, nothing of our server.

ServiceError                .code, .reason (stable word), .message, .metadata, .field_violations,
│                           .request_id, .retry_after_s
├── InvalidRequest          this request can never succeed: INVALID_ARGUMENT, OUT_OF_RANGE
│   └── RequestTooLarge     above the size that the server accepts; mostly found before sending
├── Unauthenticated         no key, or one that the server does not know
├── PermissionDenied        a key without the right to do this
├── NotFound                no such model
├── ModelMismatch           made by another model, or cut where it must be whole: FAILED_PRECONDITION
├── Unsupported             UNIMPLEMENTED
├── Overloaded              RESOURCE_EXHAUSTED, after the retries
│   └── RateLimited         this key has used up its share
├── ResponseTooLarge        the answer is larger than this client accepts
├── Unavailable             no server, loading or draining, after the retries
├── DeadlineExceeded        no answer in time
├── Cancelled
└── ServerFault             INTERNAL, UNKNOWN, DATA_LOSS: report it with its error_id
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from serving.limits import REQUEST_ID_KEY

_STATUS_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request, and what is wrong with it."""

    field: str
    description: str


class ServiceError(Exception):
    """A call failed."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Iterable[FieldViolation] = (),
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class InvalidRequest(ServiceError):
    """This request can never succeed."""


class RequestTooLarge(InvalidRequest):
    """The request is above the size that the server accepts."""


class Unauthenticated(ServiceError):
    """The server wants a key, and this is none of its keys."""


class PermissionDenied(ServiceError):
    """The key is known, and does not allow this."""


class NotFound(ServiceError):
    """No such model or version."""


class ModelMismatch(ServiceError):
    """The stream does not fit the model of this server."""


class Unsupported(ServiceError):
    """This server or model cannot do that."""


class Overloaded(ServiceError):
    """The server is full, and stayed so while the call was retried."""


class RateLimited(Overloaded):
    """This caller has used up its share; `retry_after_s` says when there is more."""


class ResponseTooLarge(ServiceError):
    """The answer is above `max_response_size_bytes` of this client."""


class Unavailable(ServiceError):
    """No server could be reached, or it is starting or stopping."""


class DeadlineExceeded(ServiceError):
    """The answer did not come in time."""


class Cancelled(ServiceError):
    """The call was cancelled."""


class ServerFault(ServiceError):
    """A bug of the server; `metadata["error_id"]` finds it in its log."""


_KINDS: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: ModelMismatch,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.INTERNAL: ServerFault,
    grpc.StatusCode.UNKNOWN: ServerFault,
    grpc.StatusCode.DATA_LOSS: ServerFault,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# gRPC itself refuses large messages, with the code of an overload, no details, and a text (1.85) that tells
# which side refused.
_TOO_LARGE_TEXTS: dict[str, tuple[type[ServiceError], str]] = {
    "SERVER: Received message larger than max": (RequestTooLarge, "REQUEST_TOO_LARGE"),
    "CLIENT: Received message larger than max": (ResponseTooLarge, "RESPONSE_TOO_LARGE"),
}


def service_error(error: Any) -> ServiceError:
    """The typed error of a failed grpc call (grpc.RpcError, sync or aio)."""
    trailers = dict(error.trailing_metadata() or ())
    details = _read(status_pb2.Status.FromString(trailers.get(_STATUS_DETAILS_KEY) or b""))
    return _error(error.code(), error.details() or "", details, str(trailers.get(REQUEST_ID_KEY, "")))


def item_error(status: status_pb2.Status) -> ServiceError:
    """The typed error of one item of EncodeMany or DecodeMany."""
    details = _read(status)
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _error(code, status.message, details, "")


@dataclass(slots=True)
class _Details:
    """What a google.rpc.Status says beyond code and text; empty where the status came from gRPC itself."""

    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: list[FieldViolation] = field(default_factory=list)
    retry_after_s: float | None = None


def _error(code: grpc.StatusCode, text: str, details: _Details, request_id: str) -> ServiceError:
    kind, reason = _KINDS.get(code, ServiceError), details.reason
    if reason == "RATE_LIMITED":
        kind = RateLimited
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and not reason:
        refused = (found for start, found in _TOO_LARGE_TEXTS.items() if start in text)
        kind, reason = next(refused, (kind, reason))
    return kind(
        text or code.name,
        code=code,
        reason=reason,
        metadata=details.metadata,
        field_violations=details.violations,
        request_id=request_id or details.metadata.get("request_id", ""),
        retry_after_s=details.retry_after_s,
    )


def _read(status: status_pb2.Status) -> _Details:
    found = _Details()
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            found.reason, found.metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            found.violations = [FieldViolation(one.field, one.description) for one in bad.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            found.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return found
