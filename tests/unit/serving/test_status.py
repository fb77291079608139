"""What went wrong, as gRPC says it: every error of the library that a caller can cause has a code."""

from __future__ import annotations

import grpc
import pytest

from serving.status import failure_of
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
