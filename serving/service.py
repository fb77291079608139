"""TokenizerService: admit -> parse -> run -> reply. Knows neither pixels nor metrics' arithmetic.

Handlers take raw bytes, so that a request is shed before it is parsed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from serving import convert, replies
from serving.admission import Admission
from serving.bulk import BulkService
from serving.commands import EncodeCommand, Encoded
from serving.config import ServingConfig
from serving.interceptor import DEADLINE_TOLERANCE_S
from serving.metrics.server import Metrics
from serving.pipeline import Pipeline
from serving.rates import cut
from serving.status import DeadlinePassed, NotReady
from serving.trace import RequestTrace
from tessera.v1 import tokenizer_service_pb2 as pb
from tokenizer.bitstream import header_size_bytes

SERVICE = pb.DESCRIPTOR.services_by_name["TokenizerService"].full_name
Context = Any  # grpc.aio.ServicerContext[bytes, Message]

# Reading a picture's header is Python work that a hostile file can stretch (thousands of JPEG markers), so
# all but the smallest requests are checked in a thread. 16 KiB of markers take some milliseconds.
_PARSE_INLINE_BYTES = 16 * 1024


class TokenizerServicer:
    """The seven RPCs, on one pipeline that arrives once the model is loaded."""

    def __init__(self, config: ServingConfig, admission: Admission, metrics: Metrics) -> None:
        self._config = config
        self._admission = admission
        self._metrics = metrics
        self._bulk = BulkService(config, admission, metrics)
        self._attached: Pipeline | None = None

    def attach(self, pipeline: Pipeline) -> None:
        """Begin to serve this model."""
        self._attached = pipeline

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

    async def _encode(self, raw: bytes, trace: RequestTrace) -> pb.EncodeResponse:
        command = await self._parse_encode(pb.EncodeRequest, raw, trace)
        encoded = await self._pipeline.encode(command, trace)
        self._count_encoded(encoded, trace)
        return replies.encode_reply(
            encoded, self._pipeline.model, trace, include_token_ids=command.include_token_ids
        )

    async def _encode_stream(self, raw: bytes, trace: RequestTrace, context: Context) -> None:
        command = await self._parse_encode(pb.EncodeStreamRequest, raw, trace)
        encoded = await self._pipeline.encode(command, trace)
        self._count_encoded(encoded, trace)
        trace.place = "streaming"
        await context.write(replies.stream_header(encoded, self._pipeline.model))
        clock = _ChunkClock(self._metrics, trace)
        chunks = replies.stream_chunks(
            encoded.sequence, self._config.first_chunk_tokens, include_token_ids=command.include_token_ids
        )
        for chunk in chunks:
            await context.write(chunk)
            clock.tick()
        await context.write(replies.stream_trailer(encoded, trace))

    async def _decode(self, raw: bytes, trace: RequestTrace) -> pb.DecodeResponse:
        with trace.measure("parse", "parsing"):
            request = convert.parse_message(pb.DecodeRequest, raw)
            command = convert.parse_decode(request, self._pipeline.model, self._config)
        picture = await self._pipeline.decode(command.sequence, command.form, command.realism, trace)
        self._pipeline.count_cut(command)
        self._metrics.stages("decode", trace.seconds)
        model = self._pipeline.model
        return pb.DecodeResponse(
            image=replies.image_message(picture),
            token_count=command.sequence.length,
            total_token_count=model.whole_length(command.sequence) or 0,
            model=replies.ref_message(model.ref),
            timings=replies.timings_message(trace),
        )

    async def _decode_stream(self, raw: bytes, trace: RequestTrace, context: Context) -> None:
        with trace.measure("parse", "parsing"):
            request = convert.parse_message(pb.DecodeStreamRequest, raw)
            command = convert.parse_decode_stream(request, self._pipeline.model, self._config)
        clock = _ChunkClock(self._metrics, trace)
        for index, length in enumerate(command.lengths):
            prefix = command.sequence.prefix(length)
            picture = await self._pipeline.decode(prefix, command.form, command.realism, trace)
            preview = pb.DecodeStreamResponse(
                preview_index=index,
                token_count=length,
                image=replies.image_message(picture),
                last=index == len(command.lengths) - 1,
                timings=replies.timings_message(trace),
            )
            trace.place = "streaming"
            await context.write(preview)
            clock.tick()
        self._metrics.stages("decode", trace.seconds)

    async def _truncate(self, raw: bytes, trace: RequestTrace) -> pb.TruncateResponse:
        request = convert.parse_message(pb.TruncateRequest, raw)
        command = convert.parse_truncate(request, self._config)
        shorter = cut(command.sequence, command.budget)
        self._metrics.tokens("truncate", shorter.length)
        self._metrics.truncated(command.sequence.length - shorter.length)
        return replies.truncate_reply(command.sequence, shorter, self._pipeline.model)

    @property
    def _pipeline(self) -> Pipeline:
        if self._attached is None:
            raise NotReady("the model is still loading", retry_after_s=1.0)
        return self._attached

    async def _parse_encode(
        self, kind: type[pb.EncodeRequest] | type[pb.EncodeStreamRequest], raw: bytes, trace: RequestTrace
    ) -> EncodeCommand:
        model = self._pipeline.model

        def parse() -> EncodeCommand:
            return convert.parse_encode(convert.parse_message(kind, raw), model, self._config)

        with trace.measure("parse", "parsing"):
            if len(raw) <= _PARSE_INLINE_BYTES:
                return parse()
            return await self._pipeline.run_beside_loop(parse)

    def _count_encoded(self, encoded: Encoded, trace: RequestTrace) -> None:
        sequence = encoded.sequence
        self._metrics.tokens("encode", encoded.length)
        size_bytes = header_size_bytes(sequence.source, sequence.canvas) + encoded.length
        self._metrics.codestream(size_bytes, replies.file_bits_per_pixel(sequence))
        self._metrics.stages("encode", trace.seconds)

    def _unary(
        self, method: str, behaviour: Callable[[bytes, RequestTrace], Awaitable[Any]], reply: Any
    ) -> Any:
        async def call(raw: bytes, context: Context) -> Any:
            async with self._in_work(method, context) as trace:
                return await behaviour(raw, trace)

        return grpc.unary_unary_rpc_method_handler(call, None, reply.SerializeToString)

    def _stream(
        self, method: str, behaviour: Callable[[bytes, RequestTrace, Context], Awaitable[None]], reply: Any
    ) -> Any:
        async def call(raw: bytes, context: Context) -> None:
            async with self._in_work(method, context) as trace:
                await behaviour(raw, trace, context)

        return grpc.unary_stream_rpc_method_handler(call, None, reply.SerializeToString)

    @asynccontextmanager
    async def _in_work(self, method: str, context: Context) -> AsyncIterator[RequestTrace]:
        """Admission, deadline, and the count of requests that nobody waits for any longer."""
        remaining_s = context.time_remaining()
        if remaining_s is None:
            remaining_s = self._config.default_deadline_s
        trace = RequestTrace(method, time.monotonic() + remaining_s)
        with self._admission.rpc(method):
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
