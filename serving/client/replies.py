"""Wire messages -> what the caller gets. Pure: knows no channel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from serving.client.errors import ServerFault, ServiceError, item_error
from tessera.v1 import model_service_pb2 as model_pb
from tessera.v1 import types_pb2 as types
from tokenizer.coding import Coding
from tokenizer.distortion import DistortionCurve
from tokenizer.sequence import TokenSequence

_CODINGS = {types.CODING_FIXED: Coding.FIXED, types.CODING_RANGE: Coding.RANGE}
_FORMATS = {
    types.IMAGE_FORMAT_PNG: "png",
    types.IMAGE_FORMAT_JPEG: "jpeg",
    types.IMAGE_FORMAT_WEBP: "webp",
    types.IMAGE_FORMAT_RAW: "raw",
}


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
    is_default: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server accepts; 0 where it does not say, or has no such limit."""

    max_request_size_bytes: int
    max_response_size_bytes: int
    max_image_size_bytes: int
    max_image_area_px: int
    max_image_side_px: int
    max_codestream_size_bytes: int
    max_canvas_area_px: int
    max_preview_count: int
    max_concurrent_rpc_count: int
    max_queue_item_count: int
    max_queue_size_bytes: int
    max_batch_item_count: int
    default_deadline_s: float
    max_realism_step_count: int
    max_stream_window_item_count: int
    max_bulk_stream_count: int
    stream_idle_timeout_s: float
    max_concurrent_truncate_count: int
    max_connection_stream_count: int
    max_connection_age_s: float
    image_decode_timeout_s: float
    max_pictures_per_s: float
    max_megapixels_per_s: float
    rate_limit_burst_s: float


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Versions, formats and limits of a server."""

    server_version: str
    codestream_versions: tuple[int, ...]
    input_formats: tuple[str, ...]
    output_formats: tuple[str, ...]
    limits: Limits
    ready: bool
    """When it was asked; `is_serving` says whether it is now."""


def encoded(reply: Any) -> TokenSequence:
    """The stream of an EncodeResponse, with its curve."""
    return _with_curve(TokenSequence.from_bytes(reply.codestream.data), reply.stats.curve)


def truncated(reply: Any, source: TokenSequence | bytes) -> TokenSequence | bytes:
    """The stream of a TruncateResponse in the form that the caller sent."""
    data = bytes(reply.codestream.data)
    if not isinstance(source, TokenSequence):
        return data
    return replace(TokenSequence.from_bytes(data), curve=source.curve)


def picture(reply: Any) -> bytes:
    """The file of a DecodeResponse."""
    return bytes(reply.image.data)


def preview(reply: Any) -> Preview:
    """One picture of DecodeStream."""
    return Preview(reply.token_count, bytes(reply.image.data), reply.last)


class GrowingSequence:
    """The messages of EncodeStream put together."""

    def __init__(self) -> None:
        self._sequence: TokenSequence | None = None

    @property
    def is_picture(self) -> bool:
        """Whether what has arrived shows anything."""
        return self._sequence is not None and self._sequence.length > 0

    def add(self, reply: Any) -> TokenSequence | None:
        """The longer prefix that a chunk makes; None for header and trailer."""
        kind = reply.WhichOneof("payload")
        if kind == "header":
            self._sequence = _with_curve(TokenSequence.from_bytes(reply.header.data), reply.header.curve)
        elif kind == "chunk" and self._sequence is not None:
            self._sequence = replace(self._sequence, tokens=self._sequence.tokens + reply.chunk.data)
            return self._sequence
        return None


def many_encoded(reply: Any) -> TokenSequence | ServiceError:
    """One result of EncodeMany."""
    error = _many_error(reply)
    return encoded(reply.response) if error is None else error


def many_decoded(reply: Any) -> bytes | ServiceError:
    """One result of DecodeMany."""
    error = _many_error(reply)
    return picture(reply.response) if error is None else error


def model_info(model: model_pb.Model) -> ModelInfo:
    """One model of ListModels or GetModel."""
    ref = model.ref
    return ModelInfo(
        name=ref.name,
        version=ref.version,
        fingerprint=ref.fingerprint,
        digest=ref.digest,
        providers=tuple(model.providers),
        max_tokens_256=model.max_token_count_256,
        predicts_quality=model.predicts_quality,
        has_realism=model.has_realism,
        codings=tuple(_CODINGS[number] for number in model.codings if number in _CODINGS),
        is_default=model.default,
    )


def server_info(reply: model_pb.GetServerInfoResponse) -> ServerInfo:
    """Versions, formats and limits of GetServerInfoResponse."""
    return ServerInfo(
        server_version=reply.server_version,
        codestream_versions=tuple(reply.codestream_versions),
        input_formats=_format_names(reply.input_formats),
        output_formats=_format_names(reply.output_formats),
        limits=_limits(reply.limits),
        ready=reply.ready,
    )


def _limits(told: model_pb.Limits) -> Limits:
    """Each limit by the name of its field; durations in seconds."""
    values: dict[str, Any] = {field.name: getattr(told, field.name) for field in told.DESCRIPTOR.fields}
    named = {
        f"{name}_s" if isinstance(value, Duration) else name: _number(value) for name, value in values.items()
    }
    return Limits(**named)


def _number(value: Any) -> Any:
    return value.ToNanoseconds() / 1e9 if isinstance(value, Duration) else value


def _many_error(reply: Any) -> ServiceError | None:
    kind = reply.WhichOneof("result")
    if kind == "error":
        return item_error(reply.error)
    if kind is None:
        return ServerFault("a result without content", code=grpc.StatusCode.INTERNAL)
    return None


def _format_names(formats: Iterable[types.ImageFormat]) -> tuple[str, ...]:
    """Formats of a newer server are left out."""
    return tuple(_FORMATS[number] for number in formats if number in _FORMATS)


def _with_curve(sequence: TokenSequence, curve: types.DistortionCurve) -> TokenSequence:
    if not curve.lengths:
        return sequence
    margins = {margin.coverage: tuple(margin.margin_db) for margin in curve.margins}
    known = DistortionCurve(tuple(curve.lengths), tuple(curve.psnr_db), margins)
    return replace(sequence, curve=known)
