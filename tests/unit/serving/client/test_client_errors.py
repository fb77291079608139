"""From a status to an error of one tree, whatever the status holds."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import status_pb2

from serving import status
from serving.client.errors import FieldViolation, RateLimited, ServerFault, ServiceError, item_error
from serving.rich_status import STATUS_DETAILS_KEY
from serving.rich_status import trailing_metadata as server_metadata
from serving.status import InvalidRequest, QueueFull, failure_of


def as_item(error: Exception) -> ServiceError:
    details = dict(server_metadata(failure_of(error), "request-1"))[STATUS_DETAILS_KEY]
    return item_error(status_pb2.Status.FromString(details))


def test_an_item_carries_all_that_a_failed_call_would():
    error = as_item(
        InvalidRequest("too wide", reason="IMAGE_TOO_LARGE", field="image", metadata={"limit": 9})
    )
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE")
    assert (error.metadata["limit"], error.request_id) == ("9", "request-1")
    assert error.field_violations == (FieldViolation("image", "too wide"),)
    assert as_item(QueueFull("full", bound="queue_items", retry_after_s=0.25)).retry_after_s == 0.25


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_is_a_service_error_with_that_code(code):
    error = item_error(status_pb2.Status(code=code.value[0]))
    assert isinstance(error, ServiceError) and error.code is code
    assert str(error) == f"{code.name}: {code.name}"


def test_a_code_from_the_future_is_a_fault_of_the_server():
    assert isinstance(item_error(status_pb2.Status(code=77, message="?")), ServerFault)


def test_a_used_up_share_is_told_from_a_full_server():
    limited = status.RateLimited("wait", quota="pictures", retry_after_s=1)
    assert isinstance(as_item(limited), RateLimited)
    assert not isinstance(as_item(QueueFull("full", bound="concurrency", retry_after_s=1)), RateLimited)
