"""TokenizerClient: a server as if it were the library. Needs grpc, protobuf, numpy and Pillow; no settings.

>>> with TokenizerClient("127.0.0.1:50051") as client:                       # doctest: +SKIP
...     stream = client.encode(open("photo.jpg", "rb").read(), TokenBudget(max_bytes=128))
...     open("photo.png", "wb").write(client.decode(stream))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving import limits
from serving.client_channel import channel_options
from serving.client_errors import RequestTooLarge, ServiceError, service_error
from serving.client_health import health_check, health_request, is_serving
from tessera.v1 import model_service_pb2 as model_pb
from tessera.v1 import model_service_pb2_grpc as model_grpc
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc as tokenizer_grpc
from tessera.v1 import types_pb2 as types
from tokenizer.budget import TokenBudget
from tokenizer.coding import Coding
from tokenizer.distortion import DistortionCurve
from tokenizer.errors import InvalidBudget
from tokenizer.images import to_rgb_array, write_image
from tokenizer.realism import DEFAULT_STEPS, Realism
from tokenizer.sequence import TokenSequence

Reply = TypeVar("Reply")
Picture = bytes | NDArray[np.uint8] | Image.Image

_FORMATS = {
    "png": types.IMAGE_FORMAT_PNG,
    "jpeg": types.IMAGE_FORMAT_JPEG,
    "webp": types.IMAGE_FORMAT_WEBP,
    "raw": types.IMAGE_FORMAT_RAW,
}
_CODINGS = {Coding.FIXED: types.CODING_FIXED, Coding.RANGE: types.CODING_RANGE}


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture at one length of its stream."""

    token_count: int
    image: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that a server serves."""

    name: str
    version: str
    fingerprint: str
    digest: str
    providers: tuple[str, ...]
    max_tokens_256: int
    predicts_quality: bool
    has_realism: bool
    codings: tuple[Coding, ...]


class TokenizerClient:
    """Calls to one server. Safe to share between threads.

    Raises ServiceError for whatever the server or the network does, ValueError for wrong arguments, and
    TokenizerError for pictures and streams that cannot be read on this side already.

    `timeout_s` is the deadline of each call, retries included.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 30.0,
        max_request_size_bytes: int = limits.MAX_REQUEST_SIZE_BYTES,
        max_response_size_bytes: int = limits.MAX_RESPONSE_SIZE_BYTES,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_request_size_bytes = max_request_size_bytes
        self._channel = grpc.insecure_channel(
            target, channel_options(max_request_size_bytes, max_response_size_bytes)
        )
        self._tokenizer: Any = tokenizer_grpc.TokenizerServiceStub(  # type: ignore[no-untyped-call]
            self._channel
        )
        self._models: Any = model_grpc.ModelServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connection; calls in work are cancelled."""
        self._channel.close()

    def encode(
        self, image: Picture, budget: TokenBudget | None = None, *, coding: Coding | None = None
    ) -> TokenSequence:
        """The stream of a picture, with its curve.

        A picture is the bytes of a PNG, JPEG or WebP file, uint8[H, W, 3], or a Pillow image. `coding` is
        that of `ImageTokenizer.encode`.
        """
        options = _encode_options(coding)
        request = pb.EncodeRequest(image=self._image(image), rate=_rate(budget), options=options)
        reply = self._call(self._tokenizer.Encode, request)
        return _with_curve(TokenSequence.from_bytes(reply.codestream.data), reply.stats.curve)

    def encode_stream(
        self,
        image: Picture,
        budget: TokenBudget | None = None,
        *,
        coding: Coding | None = None,
        allow_partial: bool = False,
    ) -> Iterator[TokenSequence]:
        """Growing prefixes of one stream, the last one whole.

        With `allow_partial`, a connection that breaks after the first prefix ends the iterator instead of
        raising: what has arrived is a picture.
        """
        options = _encode_options(coding)
        request = pb.EncodeStreamRequest(image=self._image(image), rate=_rate(budget), options=options)
        sequence: TokenSequence | None = None
        try:
            for reply in self._stream(self._tokenizer.EncodeStream, request):
                kind = reply.WhichOneof("payload")
                if kind == "header":
                    sequence = _with_curve(TokenSequence.from_bytes(reply.header.data), reply.header.curve)
                elif kind == "chunk" and sequence is not None:
                    sequence = replace(sequence, tokens=sequence.tokens + reply.chunk.data)
                    yield sequence
        except ServiceError:
            if not allow_partial or sequence is None or sequence.length == 0:
                raise

    def decode(
        self,
        sequence: TokenSequence | bytes,
        format: str = "png",
        max_tokens: int | None = None,
        *,
        quality: int | None = None,
        lossless: bool = False,
        realism: float = 0.0,
        steps: int = DEFAULT_STEPS,
        seed: int = 0,
    ) -> bytes:
        """The picture of a stream, as a file; `format` is png, jpeg, webp or raw (uint8 RGB rows).

        `realism`, `steps` and `seed` are those of `ImageTokenizer.decode`.
        """
        request = _decode_request(sequence, format, max_tokens, quality, lossless)
        request.options.MergeFrom(_realism_options(realism, steps, seed))
        reply = self._call(self._tokenizer.Decode, request)
        return bytes(reply.image.data)

    def decode_stream(
        self,
        sequence: TokenSequence | bytes,
        at: Sequence[int],
        format: str = "png",
        *,
        realism: float = 0.0,
        steps: int = DEFAULT_STEPS,
        seed: int = 0,
    ) -> Iterator[Preview]:
        """The picture at these lengths (increasing), then at the whole length."""
        decode = _decode_request(sequence, format, None, None, False)
        decode.options.MergeFrom(_realism_options(realism, steps, seed))
        request = pb.DecodeStreamRequest(request=decode, preview_token_counts=at)
        for reply in self._stream(self._tokenizer.DecodeStream, request):
            yield Preview(reply.token_count, reply.image.data, reply.last)

    def truncate(
        self, codestream: bytes, *, max_bytes: int | None = None, max_tokens: int | None = None
    ) -> bytes:
        """A shorter stream. Needs no server: `codestream[:max_bytes]` is the same, if it holds the header."""
        rate = types.RateTarget(max_size_bytes=max_bytes, max_token_count=None)
        if max_tokens is not None:
            rate = types.RateTarget(max_token_count=max_tokens)
        reply = self._call(self._tokenizer.Truncate, pb.TruncateRequest(codestream=codestream, rate=rate))
        return bytes(reply.codestream.data)

    def models(self) -> list[ModelInfo]:
        """What the server serves."""
        reply = self._call(self._models.ListModels, model_pb.ListModelsRequest())
        return [_model_info(model) for model in reply.models]

    def server_info(self) -> model_pb.GetServerInfoResponse:
        """Versions and every limit, as the server tells them."""
        reply: model_pb.GetServerInfoResponse = self._call(
            self._models.GetServerInfo, model_pb.GetServerInfoRequest()
        )
        return reply

    def is_serving(self, service: str = "") -> bool:
        """What the standard health check says of the server, or of one of its services."""
        return is_serving(self._call(health_check(self._channel), health_request(service)))

    def _image(self, image: Picture) -> types.Image:
        """A file goes as it is; pixels go raw where they fit, and as PNG where they do not."""
        if isinstance(image, bytes):
            return types.Image(encoded=image)
        pixels = to_rgb_array(image) if isinstance(image, Image.Image) else np.ascontiguousarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"pixels must be uint8[H, W, 3], got {pixels.dtype}{list(pixels.shape)}")
        if pixels.nbytes > self._max_request_size_bytes // 2:
            return types.Image(encoded=write_image(pixels, "png"))
        height, width, channels = pixels.shape
        tensor = types.Tensor(
            data_type=types.DATA_TYPE_UINT8,
            layout=types.TENSOR_LAYOUT_HWC,
            height_px=height,
            width_px=width,
            channel_count=channels,
            data=pixels.tobytes(),
        )
        return types.Image(tensor=tensor)

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        self._check_size(request)
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise service_error(error) from error

    def _stream(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        self._check_size(request)
        call = method(request, timeout=self._timeout_s)
        try:
            yield from call
        except grpc.RpcError as error:
            raise service_error(error) from error
        finally:
            # A caller that stops early has seen enough; the server should hear of it.
            call.cancel()

    def _check_size(self, request: Any) -> None:
        """gRPC itself would refuse late, and without saying which limit."""
        size_bytes = request.ByteSize()
        if size_bytes > self._max_request_size_bytes:
            raise RequestTooLarge(
                f"this request takes {size_bytes} bytes, and {self._max_request_size_bytes} are allowed",
                code=grpc.StatusCode.INVALID_ARGUMENT,
                reason="REQUEST_TOO_LARGE",
            )


def _rate(budget: TokenBudget | None) -> types.RateTarget | None:
    if budget is None:
        return None
    if budget.mode != "fast":
        raise InvalidBudget(f"a server predicts and does not search: mode {budget.mode} is local only")
    if budget.min_psnr_db is not None:
        quality = types.QualityTarget(
            metric=types.QUALITY_METRIC_PSNR_DB, min_value=budget.min_psnr_db, coverage=budget.coverage
        )
        return types.RateTarget(quality=quality)
    if budget.max_tokens is not None:
        return types.RateTarget(max_token_count=budget.max_tokens)
    if budget.max_bytes is not None:
        return types.RateTarget(max_size_bytes=budget.max_bytes)
    return types.RateTarget(bits_per_pixel=budget.bits_per_pixel)


def _encode_options(coding: Coding | None) -> pb.EncodeOptions:
    return pb.EncodeOptions(coding=types.CODING_UNSPECIFIED if coding is None else _CODINGS[Coding(coding)])


def _decode_request(
    source: TokenSequence | bytes, format: str, max_tokens: int | None, quality: int | None, lossless: bool
) -> pb.DecodeRequest:
    if format not in _FORMATS:
        raise ValueError(f"format must be one of {', '.join(_FORMATS)}, got {format!r}")
    output = types.OutputFormat(format=_FORMATS[format], quality=quality or 0, lossless=lossless)
    if max_tokens is not None:
        # On the wire 0 means all; here it means none.
        sequence = source if isinstance(source, TokenSequence) else TokenSequence.from_bytes(source)
        source = sequence.prefix(max_tokens)
    data = source.to_bytes() if isinstance(source, TokenSequence) else source
    return pb.DecodeRequest(codestream=data, output=output)


def _realism_options(realism: float, steps: int, seed: int) -> pb.DecodeOptions:
    wanted = Realism(realism, steps, seed)
    return pb.DecodeOptions(realism=wanted.strength, step_count=wanted.steps, seed=wanted.seed)


def _with_curve(sequence: TokenSequence, curve: types.DistortionCurve) -> TokenSequence:
    if not curve.lengths:
        return sequence
    margins = {margin.coverage: tuple(margin.margin_db) for margin in curve.margins}
    known = DistortionCurve(tuple(curve.lengths), tuple(curve.psnr_db), margins)
    return replace(sequence, curve=known)


def _model_info(model: model_pb.Model) -> ModelInfo:
    ref = model.ref
    return ModelInfo(
        ref.name,
        ref.version,
        ref.fingerprint,
        ref.digest,
        tuple(model.providers),
        model.max_token_count_256,
        model.predicts_quality,
        model.has_realism,
        tuple(coding for coding, number in _CODINGS.items() if number in model.codings),
    )


__all__ = ["ModelInfo", "Preview", "ServiceError", "TokenBudget", "TokenSequence", "TokenizerClient"]
