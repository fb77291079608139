"""A server that does what a test tells it: fails, breaks off, counts. No model, no queue. For tests only."""

# ruff: noqa: N802 (the method names are those of the RPCs)
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field

import grpc
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.rich_status import STATUS_DETAILS_KEY, trailing_metadata
from serving.status import InvalidRequest, StatusError, failure_of
from tessera.v1 import model_service_pb2 as model_pb
from tessera.v1 import model_service_pb2_grpc as model_grpc
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc as tokenizer_grpc
from tessera.v1 import types_pb2 as types
from tokenizer.canvas import Size
from tokenizer.sequence import TokenSequence

WINDOW = 4
CHUNK_TOKENS = 8


@dataclass
class Failure:
    """How one call ends: a code, and what gRPC should wait (negative: never come back)."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    pushback_ms: int | None = None


def stream_of(picture: bytes) -> TokenSequence:
    """The tokens of a picture are its bytes."""
    return TokenSequence(picture[:64], Size(16, 16), "0011aabb")


class FakeService(tokenizer_grpc.TokenizerServiceServicer, model_grpc.ModelServiceServicer):
    """Encode and Decode hand back the bytes they get; `b"bad..."` is a picture that nobody can read."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        """How the next calls end, one by one; GetServerInfo always answers."""
        self.calls = 0
        self.metadata: list[dict[str, str]] = []
        self.many_metadata: dict[str, str] = {}
        self.breaks: list[int | StatusError] = []
        """After how many answers the next bulk streams break off, or what they answer the first item with."""
        self.streams: list[list[int]] = []
        """Item ids that each bulk stream has received."""
        self.gate = threading.Event()
        """Cleared, nothing is answered."""
        self.gate.set()
        self.cancelled = threading.Event()
        self.max_request_size_bytes = 0
        self.forgets = False
        """Whether answers carry wrong item ids."""

    def Encode(self, request: pb.EncodeRequest, context: grpc.ServicerContext) -> pb.EncodeResponse:
        self._enter(context)
        return self._encoded(request, context)

    def Decode(self, request: pb.DecodeRequest, context: grpc.ServicerContext) -> pb.DecodeResponse:
        self._enter(context)
        return self._decoded(request)

    def EncodeStream(
        self, request: pb.EncodeStreamRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.EncodeStreamResponse]:
        """Header and one chunk; then, at the gate, the rest, unless `failures` say otherwise."""
        context.add_callback(self.cancelled.set)
        self.calls += 1
        data = stream_of(request.image.encoded).to_bytes()
        start = len(data) - 64
        yield pb.EncodeStreamResponse(header=pb.StreamHeader(data=data[:start], token_count=64))
        for index in range(start, len(data), CHUNK_TOKENS):
            yield pb.EncodeStreamResponse(chunk=pb.TokenChunk(data=data[index : index + CHUNK_TOKENS]))
            if self.failures:
                context.abort(self.failures.pop(0).code, "broken off")
            while not self.gate.wait(0.02):
                if not context.is_active():
                    return
        yield pb.EncodeStreamResponse(trailer=pb.StreamTrailer(token_count=64))

    def EncodeMany(
        self, requests: Iterator[pb.EncodeManyRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.EncodeManyResponse]:
        return self._many(requests, context, self._many_encoded)

    def DecodeMany(
        self, requests: Iterator[pb.DecodeManyRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.DecodeManyResponse]:
        def answer(item: pb.DecodeManyRequest) -> pb.DecodeManyResponse:
            return pb.DecodeManyResponse(item_id=item.item_id, response=self._decoded(item.request))

        return self._many(requests, context, answer)

    def GetServerInfo(
        self, request: model_pb.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> model_pb.GetServerInfoResponse:
        limits = model_pb.Limits(
            max_stream_window_item_count=WINDOW, max_request_size_bytes=self.max_request_size_bytes
        )
        self._count(context)
        return model_pb.GetServerInfoResponse(server_version="fake", limits=limits, ready=True)

    def _count(self, context: grpc.ServicerContext) -> None:
        self.calls += 1
        self.metadata.append(dict(context.invocation_metadata()))

    def _enter(self, context: grpc.ServicerContext) -> None:
        self._count(context)
        assert self.gate.wait(20), "a test forgot to open the gate"
        if self.failures:
            failure = self.failures.pop(0)
            if failure.pushback_ms is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(failure.pushback_ms)),))
            context.abort(failure.code, "as the test says")

    def _encoded(self, request: pb.EncodeRequest, context: grpc.ServicerContext) -> pb.EncodeResponse:
        if request.image.encoded.startswith(b"bad"):
            failure = failure_of(bad_picture())
            context.set_trailing_metadata(trailing_metadata(failure, "request-1"))
            context.abort(failure.code, failure.message)
        return encoded(request.image.encoded)

    def _decoded(self, request: pb.DecodeRequest) -> pb.DecodeResponse:
        tokens = TokenSequence.from_bytes(request.codestream).tokens
        return pb.DecodeResponse(image=types.EncodedImage(data=tokens))

    def _many_encoded(self, item: pb.EncodeManyRequest) -> pb.EncodeManyResponse:
        if item.request.image.encoded.startswith(b"bad"):
            return pb.EncodeManyResponse(item_id=item.item_id, error=status_of(bad_picture()))
        if item.request.image.encoded.startswith(b"bug"):
            bug = StatusError("internal error 17")
            return pb.EncodeManyResponse(item_id=item.item_id, error=status_of(bug))
        return pb.EncodeManyResponse(item_id=item.item_id, response=encoded(item.request.image.encoded))

    def _many(self, requests: Iterator, context: grpc.ServicerContext, answer: Callable) -> Iterator:
        context.add_callback(self.cancelled.set)
        self.many_metadata = dict(context.invocation_metadata())
        received: list[int] = []
        self.streams.append(received)
        if self.failures:
            context.abort(self.failures.pop(0).code, "refused")
        breaks = None
        for count, item in enumerate(requests):
            if count == 0 and self.breaks:
                breaks = self.breaks.pop(0)
            received.append(item.item_id)
            if count == breaks:
                context.abort(grpc.StatusCode.UNAVAILABLE, "too old")
            while not self.gate.wait(0.02):
                if not context.is_active():
                    return
            if isinstance(breaks, StatusError):
                yield pb.EncodeManyResponse(item_id=item.item_id, error=status_of(breaks))
                breaks = None
                continue
            reply = answer(item)
            reply.item_id += self.forgets
            yield reply


def bad_picture() -> StatusError:
    return InvalidRequest("no picture", reason="IMAGE_CORRUPT", field="image.source", retry_after_s=0.5)


def status_of(error: StatusError) -> status_pb2.Status:
    details = dict(trailing_metadata(failure_of(error), "request-1"))[STATUS_DETAILS_KEY]
    return status_pb2.Status.FromString(details)


def encoded(picture: bytes) -> pb.EncodeResponse:
    return pb.EncodeResponse(codestream=types.Codestream(data=stream_of(picture).to_bytes()))


@dataclass
class FakeServer:
    """A FakeService on a port, which can go away and come back."""

    service: FakeService = field(default_factory=FakeService)
    port: int = 0
    max_receive_size_bytes: int = -1

    def start(self) -> None:
        options = [("grpc.max_receive_message_length", self.max_receive_size_bytes)]
        self.server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
        tokenizer_grpc.add_TokenizerServiceServicer_to_server(self.service, self.server)
        model_grpc.add_ModelServiceServicer_to_server(self.service, self.server)
        self.health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()

    def stop(self) -> None:
        self.service.gate.set()
        self.server.stop(0).wait(10)

    def set_serving(self, serving: bool) -> None:
        states = health_pb2.HealthCheckResponse
        self.health.set("", states.SERVING if serving else states.NOT_SERVING)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"


def eventually(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    """Wait until this holds, or fail."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("this never came true")
