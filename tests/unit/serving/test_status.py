"""What went wrong, as gRPC says it: every error of the library that a caller can cause has a code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from serving import status
from serving.limits import RETRY_PUSHBACK_KEY
from serving.rich_status import rich_status, trailing_metadata
from serving.status import (
    CALLER_CODES,
    INVALID_REASONS,
    MAX_TEXT_CHARS,
    Draining,
    ModelConflict,
    ModelNotFound,
    StatusError,
    StreamTooShort,
    failure_of,
)
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


def detail(error: Exception, kind: type[Message]) -> Message:
    """The detail of this kind; fails if there is none."""
    found = kind()
    assert any(one.Unpack(found) for one in rich_status(failure_of(error), "request").details)
    return found


def test_facts_of_the_library_travel_as_metadata_in_printable_ascii_of_bounded_length() -> None:
    error = errors.ImageTooLarge("too wide", width_px=9, told="\n\u00fc" + "x" * 9000)
    found = detail(error, error_details_pb2.ErrorInfo).metadata
    assert (found["width_px"], found["request_id"]) == ("9", "request")
    assert found["told"].startswith("??x") and len(found["told"]) == MAX_TEXT_CHARS


def test_a_model_that_is_not_found_is_named() -> None:
    error = ModelNotFound("none", field="model", metadata={"name": "nobody@3"})
    found = detail(error, error_details_pb2.ResourceInfo)
    assert (found.resource_type, found.resource_name) == ("tessera.v1.Model", "nobody@3")


@pytest.mark.parametrize(
    ("error", "reason", "subject"),
    [
        (errors.FingerprintMismatch("another model's"), "MODEL_MISMATCH", "codestream"),
        (StreamTooShort("cut"), "CODESTREAM_TRUNCATED", "codestream"),
        (ModelConflict("two contents"), "MODEL_CONFLICT", "model"),
    ],
)
def test_a_failed_precondition_says_what_does_not_fit(error, reason, subject) -> None:
    (found,) = detail(error, error_details_pb2.PreconditionFailure).violations
    assert (found.type, found.subject, found.description) == (reason, subject, str(error))


def kinds(base: type[Exception], module: ModuleType) -> Iterator[type[Exception]]:
    """`base` and what is made of it in this module: other tests may define some of their own."""
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, base):
            yield kind


def reasons_given() -> Iterator[tuple[str, str]]:
    """Class and reason of each `SomeError(..., reason="SOME")` in the server's source."""
    for file in Path(status.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                for argument in call.keywords:
                    if argument.arg == "reason" and isinstance(argument.value, ast.Constant):
                        yield call.func.id, argument.value.value


def test_every_reason_that_a_caller_can_cause_is_a_label_of_the_metric() -> None:
    """One that is missing would be counted nowhere, without a word."""
    ours = {kind.__name__: kind for kind in kinds(StatusError, status)}
    found = {kind.reason for kind in ours.values() if kind.code in CALLER_CODES}
    found |= {reason for name, reason in reasons_given() if name in ours and ours[name].code in CALLER_CODES}
    for kind in kinds(errors.TokenizerError, errors):
        failure = failure_of(kind("said by the library"))
        found |= {failure.reason} if failure.code in CALLER_CODES else set()
    assert {"MODEL_CONFLICT", "ITEM_ID_NOT_INCREASING", "IMAGE_CORRUPT"} <= found
    assert found - set(INVALID_REASONS) == set()
