"""What went wrong, as gRPC says it: every error of the library that a caller can cause has a code."""

from __future__ import annotations

import grpc
import pytest

from serving.limits import RETRY_PUSHBACK_KEY
from serving.status import Draining, failure_of, trailing_metadata
from tokenizer import errors

CAUSED_BY_CALLERS = {
    errors.ImageCorrupt: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidBudget: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FingerprintMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CodingUnsupported: grpc.StatusCode.UNIMPLEMENTED,
}


@pytest.mark.parametrize("kind", CAUSED_BY_CALLERS, ids=lambda kind: kind.__name__)
def test_what_a_caller_did_is_not_internal(kind: type[errors.TokenizerError]) -> None:
    failure = failure_of(kind("said by the library"))
    assert failure.code is CAUSED_BY_CALLERS[kind]
    assert "said by the library" in failure.message


def test_a_client_that_may_try_again_at_once_is_told_a_millisecond() -> None:
    """Told 0, grpc's client destroys the attempt and makes no other one."""
    failure = failure_of(Draining("going", retry_after_s=0.0))
    assert dict(trailing_metadata(failure, "request"))[RETRY_PUSHBACK_KEY] == "1"
