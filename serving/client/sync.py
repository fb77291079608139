"""TokenizerClient: calls that wait. Builds no message and reads none: see requests.py and replies.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar, cast

import grpc

from serving import limits
from serving.client import many, replies, requests
from serving.client.errors import (
    DeadlineExceeded,
    PermissionDenied,
    ServiceError,
    Unavailable,
    service_error,
)
from serving.client.many_sync import run_many
from serving.client.replies import ModelInfo, Preview, ServerInfo
from serving.client.requests import Picture, Stream
from serving.client.session import Patience, Session
from serving.client_credentials import ClientTls, access_to
from serving.health_wire import HealthState, HealthStub, health_request
from tessera.v1 import model_service_pb2 as model_pb
from tessera.v1 import model_service_pb2_grpc as model_grpc
from tessera.v1 import tokenizer_service_pb2_grpc as tokenizer_grpc
from tokenizer.budget import TokenBudget
from tokenizer.coding import Coding
from tokenizer.realism import DEFAULT_STEPS, Realism
from tokenizer.sequence import TokenSequence

AnyStream = TypeVar("AnyStream", TokenSequence, bytes)


class TokenizerClient:
    """Calls to one server. Safe to share between threads, not across a fork.

    Raises ServiceError for whatever the server or the network does, ValueError for wrong arguments, and
    TokenizerError for pictures and streams that cannot be read on this side already.

    `target` is `host:port`, or `dns:///host:port` to spread calls over all addresses of a name. `tls`
    encrypts; without it a `key`, which is sent with every call, goes to this machine only, unless
    `allow_insecure_key`.
    `timeout_s` is the deadline of each call, retries included; each method takes another one.
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
        access = access_to(target, key=key, tls=tls, allow_insecure_key=allow_insecure_key)
        session = Session(target, timeout_s, access.metadata, max_request_size_bytes, max_response_size_bytes)
        self._session = session
        self._channel = access.channel(target, session.options)
        self._tokenizer: Any = tokenizer_grpc.TokenizerServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._models: Any = model_grpc.ModelServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = HealthStub(self._channel)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._session.target!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connection; calls in work are cancelled."""
        self._channel.close()

    def encode(
        self,
        image: Picture,
        budget: TokenBudget | None = None,
        *,
        coding: Coding | None = None,
        canvas_area_px: int | None = None,
        model: str = "",
        timeout_s: float | None = None,
    ) -> TokenSequence:
        """The stream of a picture, with its curve.

        A picture is the bytes of a PNG, JPEG or WebP file, uint8[H, W, 3], or a Pillow image. `coding` and
        `canvas_area_px` are those of `ImageTokenizer.encode`; `model` is `name` or `name@version`.
        """
        request = self._session.encode_request(image, budget, coding, canvas_area_px, model)
        return replies.encoded(self._call(self._tokenizer.Encode, request, timeout_s))

    def encode_stream(
        self,
        image: Picture,
        budget: TokenBudget | None = None,
        *,
        coding: Coding | None = None,
        canvas_area_px: int | None = None,
        model: str = "",
        allow_partial: bool = False,
        timeout_s: float | None = None,
    ) -> Iterator[TokenSequence]:
        """Growing prefixes of one stream, the last one whole.

        With `allow_partial`, a connection that breaks after the first prefix ends the iterator instead of
        raising: what has arrived is a picture. Closing the iterator cancels the call.
        """
        whole = self._session.encode_request(image, budget, coding, canvas_area_px, model)
        growing = replies.GrowingSequence()
        try:
            request = requests.encode_stream_request(whole)
            for reply in self._stream(self._tokenizer.EncodeStream, request, timeout_s):
                if (longer := growing.add(reply)) is not None:
                    yield longer
        except ServiceError:
            if not (allow_partial and growing.is_picture):
                raise

    def decode(
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
        """The picture of a stream, as a file; `format` is png, jpeg, webp or raw (uint8 RGB rows).

        `realism`, `steps` and `seed` are those of `ImageTokenizer.decode`. `strict` refuses a stream that is
        known to be cut. `model`, if given, must be the one that made the stream.
        """
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
        return replies.picture(self._call(self._tokenizer.Decode, request, timeout_s))

    def decode_stream(
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
    ) -> Iterator[Preview]:
        """The picture at these lengths (increasing), then at the whole length."""
        wanted = Realism(realism, steps, seed)
        request = requests.decode_stream_request(
            requests.decode_request(sequence, format, realism=wanted, model=model), at
        )
        for reply in self._stream(self._tokenizer.DecodeStream, request, timeout_s):
            yield replies.preview(reply)

    def truncate(
        self,
        source: AnyStream,
        *,
        max_bytes: int | None = None,
        max_tokens: int | None = None,
        bits_per_pixel: float | None = None,
        timeout_s: float | None = None,
    ) -> AnyStream:
        """A shorter stream, in the form it was given (bytes or TokenSequence); exactly one limit.

        Needs no server: `codestream[:max_bytes]` and `sequence.prefix(max_tokens)` are the same.
        """
        request = requests.truncate_request(source, max_bytes, max_tokens, bits_per_pixel)
        reply = self._call(self._tokenizer.Truncate, request, timeout_s)
        return cast(AnyStream, replies.truncated(reply, source))

    def encode_many(
        self,
        images: Iterable[Picture | tuple[Any, Picture]],
        budget: TokenBudget | None = None,
        *,
        coding: Coding | None = None,
        canvas_area_px: int | None = None,
        model: str = "",
        window: int | None = None,
        max_resumes: int = many.MAX_RESUMES,
        timeout_s: float | None = None,
    ) -> Iterator[tuple[Any, TokenSequence | ServiceError]]:
        """(index, stream) of each picture, in order; for a pair (key, picture), (key, stream).

        A picture that fails is a ServiceError in its place. Pictures are read in as the server takes them,
        never more than its window (`window` makes it smaller) ahead of the results. A stream that breaks is
        resumed with what is not answered, until `max_resumes` in a row brought no answer. `timeout_s` is the
        longest wait for an answer, not for all. Closing the iterator cancels the work.
        """
        codec = self._session.encode_codec(budget, coding, canvas_area_px, model)
        return self._run_many(self._tokenizer.EncodeMany, codec, images, window, max_resumes, timeout_s)

    def decode_many(
        self,
        sequences: Iterable[Stream | tuple[Any, Stream]],
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
    ) -> Iterator[tuple[Any, bytes | ServiceError]]:
        """(index, picture) of each stream, in order; otherwise like `encode_many` and `decode`."""
        wanted = Realism(realism, steps, seed)
        codec = self._session.decode_codec(format, quality, lossless, wanted, model)
        return self._run_many(self._tokenizer.DecodeMany, codec, sequences, window, max_resumes, timeout_s)

    def models(self, *, timeout_s: float | None = None) -> list[ModelInfo]:
        """What the server serves."""
        found: list[ModelInfo] = []
        request = model_pb.ListModelsRequest()
        while True:
            reply = self._call(self._models.ListModels, request, timeout_s)
            found += map(replies.model_info, reply.models)
            if not reply.next_page_token:
                return found
            request = model_pb.ListModelsRequest(page_token=reply.next_page_token)

    def model(self, name: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        """One model, by `name` or `name@version`; without a name, the default one."""
        request = model_pb.GetModelRequest(name=name)
        return replies.model_info(self._call(self._models.GetModel, request, timeout_s).model)

    def server_info(self, *, refresh: bool = False, timeout_s: float | None = None) -> ServerInfo:
        """Versions and every limit, as the server told first; `refresh` asks again.

        From then on no request above the server's own limit is sent.
        """
        if self._session.info is not None and not refresh:
            return self._session.info
        reply = self._call(self._models.GetServerInfo, model_pb.GetServerInfoRequest(), timeout_s)
        return self._session.learn(replies.server_info(reply))

    def is_serving(self, service: str = "", *, timeout_s: float | None = None) -> bool:
        """What the standard health check says of the server, or of one of its services."""
        return self._health_state(service, timeout_s) is HealthState.SERVING

    def wait_until_serving(self, timeout_s: float, service: str = "") -> None:
        """Return once the server serves. Raises DeadlineExceeded if it does not in time."""
        patience = Patience(self._session.target, timeout_s, time.monotonic)
        answer = ""
        while True:
            try:
                state = self._health_state(service, patience.left_s)
                if state is HealthState.SERVING:
                    return
                answer = state.name
            except Unavailable as error:
                answer = error.message
            except DeadlineExceeded as error:
                # The last question is cut short by our own patience: what was heard before says more.
                answer = answer or error.message
            time.sleep(patience.pause_s(answer))

    def _health_state(self, service: str, timeout_s: float | None) -> HealthState:
        state: HealthState = self._call(self._health.check, health_request(service), timeout_s)
        return state

    def _call(self, method: Callable[..., Any], request: Any, timeout_s: float | None = None) -> Any:
        session = self._session
        session.checked(request)
        try:
            return method(request, timeout=session.timeout_s(timeout_s), metadata=session.metadata)
        except grpc.RpcError as error:
            raise service_error(error) from error

    def _stream(
        self, method: Callable[..., Any], request: Any, timeout_s: float | None = None
    ) -> Iterator[Any]:
        session = self._session
        session.checked(request)
        call = method(request, timeout=session.timeout_s(timeout_s), metadata=session.metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise service_error(error) from error
        finally:
            # A caller that stops early has seen enough; the server should hear of it.
            call.cancel()

    def _run_many(
        self,
        method: Callable[..., Any],
        codec: many.Codec,
        sources: Iterable[Any],
        window: int | None,
        max_resumes: int,
        timeout_s: float | None,
    ) -> Iterator[tuple[Any, Any]]:
        try:
            told = self.server_info(timeout_s=timeout_s).limits.max_stream_window_item_count
        except PermissionDenied:
            told = 0  # a key for pictures need not be one for questions
        bulk = many.Bulk(codec, window=many.window_of(window, told), max_resumes=max_resumes)

        def open_stream(messages: Iterator[Any]) -> Any:
            return method(messages, metadata=self._session.metadata)

        return run_many(open_stream, bulk, sources, self._session.timeout_s(timeout_s))
