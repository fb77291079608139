"""A failure as it travels: google.rpc.Status with its details, in trailers or in an item of a bulk stream.

ErrorInfo            always: reason, domain, the facts as metadata, request_id
BadRequest           the field that is wrong
ResourceInfo         MODEL_NOT_FOUND: the name that was asked for
PreconditionFailure  FAILED_PRECONDITION: what of stream or model does not fit
QuotaFailure         RATE_LIMITED
RetryInfo            when to try again; as a trailer, too, which gRPC itself heeds
"""

from __future__ import annotations

import math

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from serving.limits import ERROR_DOMAIN, RETRY_PUSHBACK_KEY
from serving.status import Failure, ModelNotFound, RateLimited, StreamTooShort
from tokenizer.errors import FingerprintMismatch

Metadata = tuple[tuple[str, str | bytes], ...]

STATUS_DETAILS_KEY = "grpc-status-details-bin"
_OF_CODESTREAMS = (FingerprintMismatch.reason, StreamTooShort.reason)


def trailing_metadata(failure: Failure, request_id: str) -> Metadata:
    """The rich status, and for a client that should wait, for how long."""
    status = rich_status(failure, request_id)
    metadata: Metadata = ((STATUS_DETAILS_KEY, status.SerializeToString()),)
    if failure.retry_after_s is not None:
        # At least 1: told 0, grpc's client forgets to try again, and the call hangs until its deadline.
        milliseconds = max(1, math.ceil(failure.retry_after_s * 1000))
        metadata += ((RETRY_PUSHBACK_KEY, str(milliseconds)),)
    return metadata


def rich_status(failure: Failure, request_id: str) -> status_pb2.Status:
    """The status with all its details; an item of a bulk stream carries it in its place."""
    status = status_pb2.Status(code=failure.code.value[0], message=failure.message)
    status.details.extend(_packed(detail) for detail in _details(failure, request_id))
    return status


def _details(failure: Failure, request_id: str) -> list[Message]:
    info = {**failure.metadata, "request_id": request_id}
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=failure.reason, domain=ERROR_DOMAIN, metadata=info)
    ]
    if failure.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=failure.field, description=failure.message
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if failure.reason == ModelNotFound.reason:
        name = failure.metadata.get("name", "")
        details.append(error_details_pb2.ResourceInfo(resource_type="tessera.v1.Model", resource_name=name))
    if failure.code is grpc.StatusCode.FAILED_PRECONDITION:
        precondition = error_details_pb2.PreconditionFailure.Violation(
            type=failure.reason,
            subject="codestream" if failure.reason in _OF_CODESTREAMS else "model",
            description=failure.message,
        )
        details.append(error_details_pb2.PreconditionFailure(violations=[precondition]))
    if failure.reason == RateLimited.reason:
        quota = error_details_pb2.QuotaFailure.Violation(
            subject=failure.metadata["quota"], description=failure.message
        )
        details.append(error_details_pb2.QuotaFailure(violations=[quota]))
    if failure.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(failure.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
