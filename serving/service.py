"""TokenizerService: admit -> parse -> run -> reply. Knows neither pixels nor metrics' arithmetic.

Handlers take raw bytes, so that a request is shed before it is parsed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import grpc

from serving import convert, replies
from serving.admission import Admission
from serving.bulk import BulkService
from serving.commands import EncodeCommand, Encoded
from serving.config import ServingConfig
from serving.convert import Request
from serving.interceptor import DEADLINE_TOLERANCE_S
from serving.metrics.model import ModelMetrics
from serving.metrics.server import Metrics
from serving.models import ModelRegistry
from serving.pictures import PicturePool
from serving.pipeline import Pipeline
from serving.rate_limit import unpaid_if_shed
from serving.rates import cut
from serving.received import Received
from serving.status import DeadlinePassed
from serving.stream_writer import StreamWriter
from serving.trace import RequestTrace
from serving.wanted_model import wanted_model
from tessera.v1 import tokenizer_service_pb2 as pb
from tokenizer.bitstream import header_size_bytes

SERVICE = pb.DESCRIPTOR.services_by_name["TokenizerService"].full_name
Context = Any  # grpc.aio.ServicerContext[bytes, Message]
EncodingRequest = TypeVar("EncodingRequest", pb.EncodeRequest, pb.EncodeStreamRequest)

# Reading a picture's header is Python work that a hostile file can stretch (thousands of JPEG markers), so
# all but the smallest requests are checked in a thread. 16 KiB of markers take some milliseconds.
_CHECK_INLINE_BYTES = 16 * 1024
# Parsing the message itself copies its bytes, 256 KiB of them in some hundredth of a millisecond.
_PARSE_INLINE_BYTES = 256 * 1024


class TokenizerServicer:
    """The RPCs; each leases the model that its request is for, and keeps it until the reply is out."""

    def __init__(
        self,
        config: ServingConfig,
        admission: Admission,
        metrics: Metrics,
        models: ModelRegistry,
    ) -> None:
        self._config = config
        self._admission = admission
        self._metrics = metrics
        self._models = models
        self._bulk = BulkService(config, admission, metrics)
        self._attached: PicturePool | None = None

    def attach(self, pictures: PicturePool) -> None:
        """Where files are read; comes before anything is admitted."""
        self._attached = pictures

    def handlers(self) -> grpc.GenericRpcHandler:
        """What gRPC calls, with requests as bytes."""
        methods = {
            "Encode": self._unary("Encode", self._encode, pb.EncodeResponse),
            "EncodeStream": self._stream("EncodeStream", self._encode_stream, pb.EncodeStreamResponse),
            "Decode": self._unary("Decode", self._decode, pb.DecodeResponse),
            "DecodeStream": self._stream("DecodeStream", self._decode_stream, pb.DecodeStreamResponse),
            "EncodeMany": self._bulk.handler("EncodeMany", self._encode, pb.EncodeManyResponse),
            "DecodeMany": self._bulk.handler("DecodeMany", self._decode, pb.DecodeManyResponse),
            "Truncate": self._unary("Truncate", self._truncate, pb.TruncateResponse),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _encode(self, received: Received, trace: RequestTrace) -> pb.EncodeResponse:
        async with self._encoded(pb.EncodeRequest, received, trace) as (pipeline, command, encoded):
            pipeline.metrics.stages("encode", trace.seconds)
            return replies.encode_reply(
                encoded, pipeline.model, trace, include_token_ids=command.include_token_ids
            )

    async def _encode_stream(self, received: Received, trace: RequestTrace, context: Context) -> None:
        async with self._encoded(pb.EncodeStreamRequest, received, trace) as (pipeline, command, encoded):
            header, metrics = replies.stream_header(encoded, pipeline.model), pipeline.metrics
            include_token_ids = command.include_token_ids
        # The rest needs neither model nor picture: a client that reads slowly keeps none of them in memory.
        del pipeline, command
        writer = StreamWriter(context)
        await _write(header, writer, trace)
        clock = _ChunkClock(self._metrics, trace)
        chunks = replies.stream_chunks(
            encoded.sequence, self._config.first_chunk_tokens, include_token_ids=include_token_ids
        )
        for chunk in chunks:
            await _write(chunk, writer, trace)
            clock.tick()
        await _write(replies.stream_trailer(encoded, trace), writer, trace)
        metrics.stages("encode", trace.seconds)

    async def _decode(self, received: Received, trace: RequestTrace) -> pb.DecodeResponse:
        request = await self._parse(pb.DecodeRequest, received, trace)
        with self._models.lease(*wanted_model(request)) as pipeline:
            model = pipeline.model
            with trace.measure("parse", "parsing"):
                command = convert.parse_decode(request, model, self._config)
            picture = await pipeline.decode(command.sequence, command.form, command.realism, trace)
            pipeline.count_cut(command)
            pipeline.metrics.stages("decode", trace.seconds)
            return pb.DecodeResponse(
                image=replies.image_message(picture),
                token_count=command.sequence.length,
                total_token_count=model.whole_length(command.sequence) or 0,
                model=replies.ref_message(model.ref),
                timings=replies.timings_message(trace),
            )

    async def _decode_stream(self, received: Received, trace: RequestTrace, context: Context) -> None:
        request = await self._parse(pb.DecodeStreamRequest, received, trace)
        with self._models.lease(*wanted_model(request)) as pipeline:
            with trace.measure("parse", "parsing"):
                command = convert.parse_decode_stream(request, pipeline.model, self._config)
            clock, writer = _ChunkClock(self._metrics, trace), StreamWriter(context)
            for index, length in enumerate(command.lengths):
                prefix = command.sequence.prefix(length)
                picture = await pipeline.decode(prefix, command.form, command.realism, trace)
                preview = pb.DecodeStreamResponse(
                    preview_index=index,
                    token_count=length,
                    image=replies.image_message(picture),
                    last=index == len(command.lengths) - 1,
                    timings=replies.timings_message(trace),
                )
                await _write(preview, writer, trace)
                clock.tick()
            pipeline.metrics.stages("decode", trace.seconds)

    async def _truncate(self, received: Received, trace: RequestTrace) -> pb.TruncateResponse:
        request = await self._parse(pb.TruncateRequest, received, trace)
        command = convert.parse_truncate(request, self._config)
        shorter = cut(command.sequence, command.budget)
        made_by = self._models.of_fingerprint(command.sequence.fingerprint)
        metrics = made_by.pipeline.metrics if made_by else self._metrics.of_unknown_model
        metrics.truncated(shorter.length, command.sequence.length - shorter.length)
        trace.note(token_count=shorter.length)
        model = made_by.pipeline.model if made_by else None
        return replies.truncate_reply(command.sequence, shorter, model)

    @property
    def _pictures(self) -> PicturePool:
        assert self._attached is not None  # admission lets nothing in before
        return self._attached

    async def _parse(self, kind: type[Request], received: Received, trace: RequestTrace) -> Request:
        """The message; not yet checked, but enough to find its model."""
        parse = partial(convert.parse_message, kind, received.take())
        is_small = received.size_bytes <= _PARSE_INLINE_BYTES
        with trace.measure("parse", "parsing"):
            return parse() if is_small else await self._pictures.run(parse)

    @asynccontextmanager
    async def _encoded(
        self, kind: type[EncodingRequest], received: Received, trace: RequestTrace
    ) -> AsyncIterator[tuple[Pipeline, EncodeCommand, Encoded]]:
        """The model that the request is for, kept until the block ends, what it asks for, and its tokens."""
        request = await self._parse(kind, received, trace)
        with self._models.lease(*wanted_model(request)) as pipeline:
            check = partial(convert.parse_encode, request, pipeline.model, self._config)
            del request  # it holds the picture, and so does the command
            is_small = received.size_bytes <= _CHECK_INLINE_BYTES
            with trace.measure("parse", "parsing"):
                command = check() if is_small else await self._pictures.run(check)
            del check
            encoded = await pipeline.encode(command, trace)
            _count_encoded(encoded, pipeline.metrics)
            yield pipeline, command, encoded

    def _unary(
        self, method: str, behaviour: Callable[[Received, RequestTrace], Awaitable[Any]], reply: Any
    ) -> Any:
        async def call(raw: bytes, context: Context) -> Any:
            received = Received(raw)
            del raw
            async with self._in_work(method, context) as trace:
                return await behaviour(received, trace)

        return grpc.unary_unary_rpc_method_handler(call, None, reply.SerializeToString)

    def _stream(
        self, method: str, behaviour: Callable[[Received, RequestTrace, Context], Awaitable[None]], reply: Any
    ) -> Any:
        async def call(raw: bytes, context: Context) -> None:
            received = Received(raw)
            del raw
            async with self._in_work(method, context) as trace:
                await behaviour(received, trace, context)

        return grpc.unary_stream_rpc_method_handler(call, None, reply.SerializeToString)

    @asynccontextmanager
    async def _in_work(self, method: str, context: Context) -> AsyncIterator[RequestTrace]:
        """Admission, deadline, and the count of requests that nobody waits for any longer."""
        remaining_s = context.time_remaining()
        if remaining_s is None:
            remaining_s = self._config.default_deadline_s
        trace = RequestTrace(method, time.monotonic() + remaining_s)
        with unpaid_if_shed(), self._admission.rpc(method):
            timer = asyncio.timeout(remaining_s)
            try:
                async with timer:
                    yield trace
            except TimeoutError as error:
                if not timer.expired():
                    raise
                self._metrics.abandoned(method, by_deadline=True, place=trace.place)
                raise DeadlinePassed("the deadline passed") from error
            except DeadlinePassed:
                self._metrics.abandoned(method, by_deadline=True, place=trace.place)
                raise
            except asyncio.CancelledError:
                late = trace.remaining_s <= DEADLINE_TOLERANCE_S
                self._metrics.abandoned(method, by_deadline=late, place=trace.place)
                raise


async def _write(message: Any, writer: StreamWriter, trace: RequestTrace) -> None:
    """Send a message of a stream; waits while the client does not read."""
    with trace.measure("write", "streaming"):
        await writer.write(message)


def _count_encoded(encoded: Encoded, metrics: ModelMetrics) -> None:
    sequence = encoded.sequence
    metrics.tokens("encode", encoded.length)
    size_bytes = header_size_bytes(sequence.source, sequence.canvas) + encoded.length
    metrics.codestream(size_bytes, replies.file_bits_per_pixel(sequence))


class _ChunkClock:
    """Times the chunks of one stream; the client's slowness is included, since `write` waits for it."""

    def __init__(self, metrics: Metrics, trace: RequestTrace) -> None:
        self._metrics = metrics
        self._trace = trace
        self._last: float | None = None

    def tick(self) -> None:
        """A chunk was written."""
        now = time.monotonic()
        if self._last is None:
            self._metrics.first_chunk(self._trace.method, self._trace.total_s)
        else:
            self._metrics.next_chunk(self._trace.method, now - self._last)
        self._last = now
