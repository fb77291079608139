"""One EncodeMany or DecodeMany as a test drives it: items when the test says so, results when it asks."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types


def encode_request(file: bytes, **fields) -> pb.EncodeRequest:
    return pb.EncodeRequest(image=types.Image(encoded=file), **fields)


def encode_item(item_id: int, file: bytes, **fields) -> pb.EncodeManyRequest:
    return pb.EncodeManyRequest(item_id=item_id, request=encode_request(file, **fields))


class BulkCall:
    """`send` and `close` never block; iterate to read results."""

    def __init__(
        self,
        channel: grpc.Channel,
        method: str = "EncodeMany",
        timeout: float | None = 20,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        self.rpc = getattr(stub, method)(iter(self._items.get, None), timeout=timeout, metadata=metadata)

    def send(self, *items) -> None:
        for item in items:
            self._items.put(item)

    def close(self) -> None:
        """No more items."""
        self._items.put(None)

    def __iter__(self) -> Iterator[Any]:
        return self.rpc

    def until_it_fails(self) -> tuple[list[Any], grpc.RpcError]:
        """The results that came, and the error after them."""
        results = []
        try:
            for result in self.rpc:
                results.append(result)
        except grpc.RpcError as error:
            self.close()
            return results, error
        raise AssertionError(f"this ended well, after {len(results)} results")


def reason_of(error: grpc.RpcError) -> str:
    """ErrorInfo.reason of a failed RPC."""
    return error_info(rpc_status.from_call(error)).reason


def error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info), "ErrorInfo comes first"
    return info
