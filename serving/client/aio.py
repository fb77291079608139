"""AsyncTokenizerClient: the calls of TokenizerClient for asyncio. Builds no message and reads none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Self, TypeVar, cast

import grpc
import grpc.aio

from serving import limits
from serving.client import many, replies, requests
from serving.client.errors import (
    DeadlineExceeded,
    PermissionDenied,
    ServiceError,
    Unavailable,
    service_error,
)
from serving.client.many_aio import run_many
from serving.client.replies import ModelInfo, Preview, ServerInfo
from serving.client.requests import Picture, Stream
from serving.client.session import Patience, Session, docstrings_of
from serving.client.sync import AnyStream, TokenizerClient
from serving.client_credentials import ClientTls, access_to
from serving.health_wire import HealthState, HealthStub, health_request
from tessera.v1 import model_service_pb2 as model_pb
from tessera.v1 import model_service_pb2_grpc as model_grpc
from tessera.v1 import tokenizer_service_pb2_grpc as tokenizer_grpc
from tokenizer.budget import TokenBudget
from tokenizer.coding import Coding
from tokenizer.realism import DEFAULT_STEPS, Realism
from tokenizer.sequence import TokenSequence

Source = TypeVar("Source")
Items = Iterable[Source | tuple[Any, Source]] | AsyncIterable[Source | tuple[Any, Source]]


@docstrings_of(TokenizerClient)
class AsyncTokenizerClient:
    """TokenizerClient for asyncio: the same methods, arguments and errors.

    Make it and use it in one event loop, and have one event loop with gRPC per process. Iterators are async,
    and `encode_many` and `decode_many` also take async iterables. Cancelling a task cancels its call, on the
    server too.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: ClientTls | None = None,
        key: str | None = None,
        allow_insecure_key: bool = False,
        timeout_s: float = 30.0,
        max_request_size_bytes: int = limits.MAX_REQUEST_SIZE_BYTES,
        max_response_size_bytes: int = limits.MAX_RESPONSE_SIZE_BYTES,
    ) -> None:
        # grpc would otherwise make a loop of its own, in which nobody waits.
        self._loop = asyncio.get_running_loop()
        access = access_to(target, key=key, tls=tls, allow_insecure_key=allow_insecure_key)
        session = Session(target, timeout_s, access.metadata, max_request_size_bytes, max_response_size_bytes)
        self._session = session
        self._channel = access.aio_channel(target, session.options)
        self._tokenizer: Any = tokenizer_grpc.TokenizerServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._models: Any = model_grpc.ModelServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = HealthStub(self._channel)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._session.target!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def encode(
        self,
        image: Picture,
        budget: TokenBudget | None = None,
        *,
        coding: Coding | None = None,
        canvas_area_px: int | None = None,
        model: str = "",
        timeout_s: float | None = None,
    ) -> TokenSequence:
        request = self._session.encode_request(image, budget, coding, canvas_area_px, model)
        return replies.encoded(await self._call(self._tokenizer.Encode, request, timeout_s))

    async def encode_stream(
        self,
        image: Picture,
        budget: TokenBudget | None = None,
        *,
        coding: Coding | None = None,
        canvas_area_px: int | None = None,
        model: str = "",
        allow_partial: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncIterator[TokenSequence]:
        whole = self._session.encode_request(image, budget, coding, canvas_area_px, model)
        growing = replies.GrowingSequence()
        try:
            request = requests.encode_stream_request(whole)
            async with aclosing(self._stream(self._tokenizer.EncodeStream, request, timeout_s)) as messages:
                async for reply in messages:
                    if (longer := growing.add(reply)) is not None:
                        yield longer
        except ServiceError:
            if not (allow_partial and growing.is_picture):
                raise

    async def decode(
        self,
        sequence: Stream,
        format: str = "png",
        max_tokens: int | None = None,
        *,
        quality: int | None = None,
        lossless: bool = False,
        realism: float = 0.0,
        steps: int = DEFAULT_STEPS,
        seed: int = 0,
        strict: bool = False,
        model: str = "",
        timeout_s: float | None = None,
    ) -> bytes:
        request = requests.decode_request(
            sequence,
            format,
            max_tokens,
            quality=quality,
            lossless=lossless,
            realism=Realism(realism, steps, seed),
            strict=strict,
            model=model,
        )
        return replies.picture(await self._call(self._tokenizer.Decode, request, timeout_s))

    async def decode_stream(
        self,
        sequence: Stream,
        at: Sequence[int],
        format: str = "png",
        *,
        realism: float = 0.0,
        steps: int = DEFAULT_STEPS,
        seed: int = 0,
        model: str = "",
        timeout_s: float | None = None,
    ) -> AsyncIterator[Preview]:
        wanted = Realism(realism, steps, seed)
        request = requests.decode_stream_request(
            requests.decode_request(sequence, format, realism=wanted, model=model), at
        )
        async with aclosing(self._stream(self._tokenizer.DecodeStream, request, timeout_s)) as messages:
            async for reply in messages:
                yield replies.preview(reply)

    async def truncate(
        self,
        source: AnyStream,
        *,
        max_bytes: int | None = None,
        max_tokens: int | None = None,
        bits_per_pixel: float | None = None,
        timeout_s: float | None = None,
    ) -> AnyStream:
        request = requests.truncate_request(source, max_bytes, max_tokens, bits_per_pixel)
        reply = await self._call(self._tokenizer.Truncate, request, timeout_s)
        return cast(AnyStream, replies.truncated(reply, source))

    def encode_many(
        self,
        images: Items[Picture],
        budget: TokenBudget | None = None,
        *,
        coding: Coding | None = None,
        canvas_area_px: int | None = None,
        model: str = "",
        window: int | None = None,
        max_resumes: int = many.MAX_RESUMES,
        timeout_s: float | None = None,
    ) -> AsyncIterator[tuple[Any, TokenSequence | ServiceError]]:
        codec = self._session.encode_codec(budget, coding, canvas_area_px, model)
        return self._run_many(self._tokenizer.EncodeMany, codec, images, window, max_resumes, timeout_s)

    def decode_many(
        self,
        sequences: Items[Stream],
        format: str = "png",
        *,
        quality: int | None = None,
        lossless: bool = False,
        realism: float = 0.0,
        steps: int = DEFAULT_STEPS,
        seed: int = 0,
        model: str = "",
        window: int | None = None,
        max_resumes: int = many.MAX_RESUMES,
        timeout_s: float | None = None,
    ) -> AsyncIterator[tuple[Any, bytes | ServiceError]]:
        wanted = Realism(realism, steps, seed)
        codec = self._session.decode_codec(format, quality, lossless, wanted, model)
        return self._run_many(self._tokenizer.DecodeMany, codec, sequences, window, max_resumes, timeout_s)

    async def models(self, *, timeout_s: float | None = None) -> list[ModelInfo]:
        found: list[ModelInfo] = []
        request = model_pb.ListModelsRequest()
        while True:
            reply = await self._call(self._models.ListModels, request, timeout_s)
            found += map(replies.model_info, reply.models)
            if not reply.next_page_token:
                return found
            request = model_pb.ListModelsRequest(page_token=reply.next_page_token)

    async def model(self, name: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        request = model_pb.GetModelRequest(name=name)
        reply = await self._call(self._models.GetModel, request, timeout_s)
        return replies.model_info(reply.model)

    async def server_info(self, *, refresh: bool = False, timeout_s: float | None = None) -> ServerInfo:
        if self._session.info is not None and not refresh:
            return self._session.info
        reply = await self._call(self._models.GetServerInfo, model_pb.GetServerInfoRequest(), timeout_s)
        return self._session.learn(replies.server_info(reply))

    async def is_serving(self, service: str = "", *, timeout_s: float | None = None) -> bool:
        return await self._health_state(service, timeout_s) is HealthState.SERVING

    async def wait_until_serving(self, timeout_s: float, service: str = "") -> None:
        patience = Patience(self._session.target, timeout_s, time.monotonic)
        answer = ""
        while True:
            try:
                state = await self._health_state(service, patience.left_s)
                if state is HealthState.SERVING:
                    return
                answer = state.name
            except Unavailable as error:
                answer = error.message
            except DeadlineExceeded as error:
                # The last question is cut short by our own patience: what was heard before says more.
                answer = answer or error.message
            await asyncio.sleep(patience.pause_s(answer))

    async def _health_state(self, service: str, timeout_s: float | None) -> HealthState:
        state: HealthState = await self._call(self._health.check, health_request(service), timeout_s)
        return state

    async def _call(self, method: Callable[..., Any], request: Any, timeout_s: float | None = None) -> Any:
        self._check_loop()
        session = self._session
        session.checked(request)
        try:
            return await method(request, timeout=session.timeout_s(timeout_s), metadata=session.metadata)
        except grpc.RpcError as error:
            raise service_error(error) from error

    async def _stream(
        self, method: Callable[..., Any], request: Any, timeout_s: float | None = None
    ) -> AsyncGenerator[Any, None]:
        self._check_loop()
        session = self._session
        session.checked(request)
        call = method(request, timeout=session.timeout_s(timeout_s), metadata=session.metadata)
        try:
            async for reply in call:
                yield reply
        except grpc.RpcError as error:
            raise service_error(error) from error
        finally:
            # A caller that stops early has seen enough; the server should hear of it.
            call.cancel()

    async def _run_many(
        self,
        method: Callable[..., Any],
        codec: many.Codec,
        sources: Items[Any],
        window: int | None,
        max_resumes: int,
        timeout_s: float | None,
    ) -> AsyncIterator[tuple[Any, Any]]:
        self._check_loop()
        try:
            told = (await self.server_info(timeout_s=timeout_s)).limits.max_stream_window_item_count
        except PermissionDenied:
            told = 0
        bulk = many.Bulk(codec, window=many.window_of(window, told), max_resumes=max_resumes)

        def open_stream() -> Any:
            return method(metadata=self._session.metadata)

        async with aclosing(
            run_many(open_stream, bulk, sources, self._session.timeout_s(timeout_s))
        ) as results:
            async for result in results:
                yield result

    def _check_loop(self) -> None:
        """Another loop would wait for ever for answers that arrive in the first."""
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("an AsyncTokenizerClient belongs to the event loop it was made in")
