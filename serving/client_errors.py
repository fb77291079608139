"""What a call to a server can fail with, as one tree. Knows gRPC statuses, nothing of our server.

ServiceError                .code, .reason (stable word), .message, .metadata, .request_id, .retry_after_s
├── InvalidRequest          this request can never succeed: INVALID_ARGUMENT, OUT_OF_RANGE
│   └── RequestTooLarge     found before sending
├── NotFound                no such model
├── ModelMismatch           made by another model, or cut where it must be whole: FAILED_PRECONDITION
├── Unsupported             UNIMPLEMENTED
├── Overloaded              RESOURCE_EXHAUSTED, after the retries
├── Unavailable             no server, loading or draining, after the retries
├── DeadlineExceeded        no answer in time
├── Cancelled
└── ServerFault             INTERNAL, UNKNOWN, DATA_LOSS: report it with its error_id
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from serving.limits import REQUEST_ID_KEY

_STATUS_DETAILS_KEY = "grpc-status-details-bin"


class ServiceError(Exception):
    """A call failed."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class InvalidRequest(ServiceError):
    """This request can never succeed."""


class RequestTooLarge(InvalidRequest):
    """The request is above the size that servers accept; it was not sent."""


class NotFound(ServiceError):
    """No such model or version."""


class ModelMismatch(ServiceError):
    """The stream does not fit the model of this server."""


class Unsupported(ServiceError):
    """This server or model cannot do that."""


class Overloaded(ServiceError):
    """The server is full, and stayed so while the call was retried."""


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


def service_error(error: Any) -> ServiceError:
    """The typed error of a failed grpc call (grpc.RpcError, which is also a grpc.Call)."""
    code = error.code()
    trailers = dict(error.trailing_metadata() or ())
    info, retry_after_s = _details(trailers.get(_STATUS_DETAILS_KEY))
    return _KINDS.get(code, ServiceError)(
        error.details() or code.name,
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        request_id=str(trailers.get(REQUEST_ID_KEY, "")),
        retry_after_s=retry_after_s,
    )


def _details(raw: bytes | None) -> tuple[error_details_pb2.ErrorInfo, float | None]:
    """ErrorInfo and the advised wait; empty where the status came from gRPC itself."""
    info, retry_after_s = error_details_pb2.ErrorInfo(), None
    for detail in status_pb2.Status.FromString(raw or b"").details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return info, retry_after_s
