"""One table: exception -> gRPC code, reason and facts. What it looks like on the wire is in `rich_status`.

StatusError                 raised by serving itself
├── InvalidRequest          INVALID_ARGUMENT, with the field that is wrong
├── ModelNotFound           NOT_FOUND
├── ModelConflict, ModelRequired, ModelLoadFailed   FAILED_PRECONDITION, to an operator who changes models
├── StreamTooShort          FAILED_PRECONDITION   CODESTREAM_TRUNCATED
├── Unsupported             UNIMPLEMENTED
├── QueueFull               RESOURCE_EXHAUSTED, with the time after which to try again
├── RateLimited             RESOURCE_EXHAUSTED, with the quota that is spent
├── DeviceMemoryFull        RESOURCE_EXHAUSTED    DEVICE_MEMORY
├── Unauthenticated         UNAUTHENTICATED       TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED
├── ScopeMissing            PERMISSION_DENIED
├── NotReady, Draining, ModelUnloaded, DecoderLost  UNAVAILABLE
└── DeadlineUnmeetable      DEADLINE_EXCEEDED
    ├── DeadlinePassed      the same, after the request was accepted
    └── StreamIdle          a bulk stream whose client neither sends nor reads
TokenizerError              see tokenizer/errors.py; what a caller of the library can cause
anything else               INTERNAL, with an error id; the stack stays in the log
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from tokenizer import errors

# The reply's metadata is limited to 8 KiB (chttp2's soft limit), and the details ride in it.
MAX_TEXT_CHARS = 300
WAIT_ESTIMATE_KEY = "queue_wait_estimate_ms"
"""In the metadata of a request that was refused since it would wait for longer than its deadline allows."""


class StatusError(Exception):
    """A failure with a known code and reason."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str = "",
        retry_after_s: float | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason
        self.field = field
        self.retry_after_s = retry_after_s
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}


class InvalidRequest(StatusError):
    """The request can never succeed as it is."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "REQUEST_MALFORMED"


class ModelNotFound(StatusError):
    """No such model or version here."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class ModelConflict(StatusError):
    """Another content, or the same one, goes by this name and version already."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_CONFLICT"


class ModelRequired(StatusError):
    """Requests without a model's name would have none."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_REQUIRED"


class ModelLoadFailed(StatusError):
    """A model that cannot be loaded or run; metadata `cause` says why."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_LOAD_FAILED"


class StreamTooShort(StatusError):
    """A whole stream was asked for, and this one was cut."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "CODESTREAM_TRUNCATED"


class Unsupported(StatusError):
    """This model, or this RPC, cannot do that."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "OPERATION_UNSUPPORTED"


class QueueFull(StatusError):
    """More work than the limits allow; `bound` says which one (a label of metrics)."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"

    def __init__(self, message: str, *, bound: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s, metadata={"bound": bound})
        self.bound = bound


class RateLimited(StatusError):
    """This key has spent its share; `quota` is pictures or megapixels."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"

    def __init__(self, message: str, *, quota: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s, metadata={"quota": quota})


class DeviceMemoryFull(StatusError):
    """The device had no memory for the batch, nor for half of it."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "DEVICE_MEMORY"


class Unauthenticated(StatusError):
    """No key, or none that is known here."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "TOKEN_INVALID"


class ScopeMissing(StatusError):
    """The key is good, but not for this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "SCOPE_MISSING"


class NotReady(StatusError):
    """The model is still loading."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "MODEL_NOT_READY"


class Draining(StatusError):
    """The server is shutting down; another one can take the request at once."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "SERVER_DRAINING"


class DecoderLost(StatusError):
    """The process that decoded this picture was ended by somebody else; a new one is there soon."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "DECODER_LOST"


class ModelUnloaded(StatusError):
    """The model left the service before it came to this request, which had more time than a drain gives."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "MODEL_UNLOADED"


class DeadlineUnmeetable(StatusError):
    """The deadline passed, or will pass before the model gets to it."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_UNMEETABLE"


class DeadlinePassed(DeadlineUnmeetable):
    """The request was accepted, and its time ran out on the way."""


class StreamIdle(DeadlineUnmeetable):
    """A bulk stream only waited for its client, for longer than it may."""

    reason = "STREAM_IDLE"


# Library errors that are not simply wrong arguments. The nearest class of the error decides.
_LIBRARY_CODES: dict[type[Exception], grpc.StatusCode] = {
    errors.ImageError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidBudget: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidRealism: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BitstreamError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FingerprintMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CodingUnsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.DeviceMemoryExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

_LIBRARY_FIELDS: dict[type[Exception], str] = {
    errors.ImageError: "image.source",
    errors.InvalidBudget: "rate",
    errors.InvalidRealism: "options",
    errors.BitstreamError: "codestream",
}

INVALID_REASONS = (
    "REQUEST_MALFORMED",
    "ITEM_ID_NOT_INCREASING",
    "IMAGE_INVALID",
    "IMAGE_MISSING",
    "IMAGE_FORMAT_UNSUPPORTED",
    "IMAGE_FORMAT_MISMATCH",
    "IMAGE_CORRUPT",
    "IMAGE_TOO_LARGE",
    "IMAGE_ANIMATED",
    "IMAGE_MODE_UNSUPPORTED",
    "TENSOR_SIZE_MISMATCH",
    "TENSOR_SHAPE_UNSUPPORTED",
    "TENSOR_VALUE_INVALID",
    "ENUM_UNKNOWN",
    "RATE_INVALID",
    "RATE_UNREACHABLE",
    "OPTION_INVALID",
    "CODESTREAM_MISSING",
    "CODESTREAM_MALFORMED",
    "CODESTREAM_TOO_LARGE",
    "CODESTREAM_TRUNCATED",
    "MODEL_NOT_FOUND",
    "MODEL_MISMATCH",
    "MODEL_CONFLICT",
    "MODEL_REQUIRED",
    "MODEL_LOAD_FAILED",
    "OUTPUT_TOO_LARGE",
    "PREVIEWS_INVALID",
    "OPERATION_UNSUPPORTED",
)
"""Every reason that tells a caller to change the request: the closed label set of the metric."""

CALLER_CODES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A status ready to be sent."""

    code: grpc.StatusCode
    reason: str
    message: str
    field: str = ""
    retry_after_s: float | None = None
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_expected(self) -> bool:
        """False for a bug of ours, whose stack belongs in the log."""
        return self.code != grpc.StatusCode.INTERNAL


def failure_of(error: Exception) -> Failure:
    """The status of any exception; never shows a text that we did not write ourselves."""
    if isinstance(error, StatusError):
        text = _printable(str(error))
        facts = _printable_facts(error.metadata)
        return Failure(error.code, error.reason, text, error.field, error.retry_after_s, facts)
    for kind in type(error).__mro__:
        if isinstance(error, errors.TokenizerError) and kind in _LIBRARY_CODES:
            field_name = _LIBRARY_FIELDS.get(kind, "")
            text, facts = _printable(str(error)), _printable_facts(error.facts)
            return Failure(_LIBRARY_CODES[kind], error.reason, text, field_name, metadata=facts)
    error_id = uuid.uuid4().hex
    message = f"internal error {error_id}"
    return Failure(grpc.StatusCode.INTERNAL, "INTERNAL", message, metadata={"error_id": error_id})


def is_our_failure(error: Exception) -> bool:
    """True for what a server that works would not have failed with, whatever the request."""
    return isinstance(error, DecoderLost | DeviceMemoryFull) or not failure_of(error).is_expected


def _printable_facts(facts: Mapping[str, object]) -> dict[str, str]:
    return {name: _printable(str(value)) for name, value in facts.items()}


def _printable(text: str) -> str:
    """Printable ASCII of bounded length: a message may quote the request, and travels in a header."""
    safe = "".join(char if " " <= char <= "~" else "?" for char in text)
    return safe if len(safe) <= MAX_TEXT_CHARS else safe[: MAX_TEXT_CHARS - 3] + "..."
