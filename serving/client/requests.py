"""What the caller asks -> wire messages. Pure: knows no channel, and raises before anything is sent.

Raises ValueError, InvalidBudget, InvalidRealism and BitstreamError for arguments that make no request, and
RequestTooLarge for a request that no server would accept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.client.errors import InvalidRequest, RequestTooLarge, ServiceError
from serving.limits import MAX_REQUEST_SIZE_BYTES
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types
from tokenizer.budget import TokenBudget
from tokenizer.coding import Coding
from tokenizer.errors import InvalidBudget, TokenizerError
from tokenizer.images import to_rgb_array, write_image
from tokenizer.realism import Realism
from tokenizer.sequence import TokenSequence

Picture = bytes | NDArray[np.uint8] | Image.Image
Stream = TokenSequence | bytes

_FORMATS = {
    "png": types.IMAGE_FORMAT_PNG,
    "jpeg": types.IMAGE_FORMAT_JPEG,
    "webp": types.IMAGE_FORMAT_WEBP,
    "raw": types.IMAGE_FORMAT_RAW,
}
_CODINGS = {Coding.FIXED: types.CODING_FIXED, Coding.RANGE: types.CODING_RANGE}


def encode_request(
    image: Picture,
    budget: TokenBudget | None = None,
    *,
    coding: Coding | None = None,
    canvas_area_px: int | None = None,
    model: str = "",
    max_size_bytes: int = MAX_REQUEST_SIZE_BYTES,
) -> pb.EncodeRequest:
    """A picture and what to spend on it; pixels above half of `max_size_bytes` are sent as PNG."""
    options = pb.EncodeOptions(
        coding=types.CODING_UNSPECIFIED if coding is None else _CODINGS[Coding(coding)],
        canvas_area_px=canvas_area_px or 0,
    )
    message = image_message(image, max_size_bytes // 2)
    return pb.EncodeRequest(model=model, image=message, rate=rate_target(budget), options=options)


def encode_stream_request(request: pb.EncodeRequest) -> pb.EncodeStreamRequest:
    """The same request for EncodeStream."""
    rate = request.rate if request.HasField("rate") else None
    return pb.EncodeStreamRequest(
        model=request.model, image=request.image, rate=rate, options=request.options
    )


def decode_request(
    source: Stream,
    format: str = "png",
    max_tokens: int | None = None,
    *,
    quality: int | None = None,
    lossless: bool = False,
    realism: Realism | None = None,
    strict: bool = False,
    model: str = "",
) -> pb.DecodeRequest:
    """A stream, and how its picture should look and be written."""
    if format not in _FORMATS:
        raise ValueError(f"format must be one of {', '.join(_FORMATS)}, got {format!r}")
    output = types.OutputFormat(format=_FORMATS[format], quality=quality or 0, lossless=lossless)
    wanted = realism or Realism()
    options = pb.DecodeOptions(
        realism=wanted.strength, step_count=wanted.steps, seed=wanted.seed, strict=strict
    )
    if max_tokens is not None:
        # On the wire 0 means all; here it means none.
        source = (source if isinstance(source, TokenSequence) else TokenSequence.from_bytes(source)).prefix(
            max_tokens
        )
    return pb.DecodeRequest(codestream=stream_bytes(source), output=output, options=options, model=model)


def decode_stream_request(request: pb.DecodeRequest, at: Sequence[int]) -> pb.DecodeStreamRequest:
    """The same request at growing lengths."""
    return pb.DecodeStreamRequest(request=request, preview_token_counts=at)


def truncate_request(
    source: Stream, max_bytes: int | None, max_tokens: int | None, bits_per_pixel: float | None
) -> pb.TruncateRequest:
    """A stream, and the one limit to cut it to."""
    budget = TokenBudget(max_tokens, max_bytes, bits_per_pixel)
    return pb.TruncateRequest(codestream=stream_bytes(source), rate=rate_target(budget))


def encode_many_request(item_id: int, request: pb.EncodeRequest) -> pb.EncodeManyRequest:
    """One item of EncodeMany."""
    return pb.EncodeManyRequest(item_id=item_id, request=request)


def decode_many_request(item_id: int, request: pb.DecodeRequest) -> pb.DecodeManyRequest:
    """One item of DecodeMany."""
    return pb.DecodeManyRequest(item_id=item_id, request=request)


def stream_bytes(source: Stream) -> bytes:
    """A stream as it travels."""
    return source.to_bytes() if isinstance(source, TokenSequence) else source


def image_message(image: Picture, max_raw_size_bytes: int) -> types.Image:
    """A file goes as it is; pixels go raw where they fit, and as PNG where they do not."""
    if isinstance(image, bytes):
        return types.Image(encoded=image)
    pixels = to_rgb_array(image) if isinstance(image, Image.Image) else np.ascontiguousarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be uint8[H, W, 3], got {pixels.dtype}{list(pixels.shape)}")
    if pixels.nbytes > max_raw_size_bytes:
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


def rate_target(budget: TokenBudget | None) -> types.RateTarget | None:
    """A budget as the wire has it; None asks for all tokens."""
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


def check_size(request: Any, max_size_bytes: int) -> None:
    """Raise RequestTooLarge: gRPC itself would refuse late, and without saying which limit."""
    size_bytes = request.ByteSize()
    if size_bytes > max_size_bytes:
        raise RequestTooLarge(
            f"this request takes {size_bytes} bytes, and {max_size_bytes} are allowed",
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason="REQUEST_TOO_LARGE",
        )


def item_error_of(error: ValueError | TokenizerError | ServiceError) -> ServiceError:
    """What is wrong with one item of many before it is sent, as the error that stands in its place."""
    if isinstance(error, ServiceError):
        return error
    reason = error.reason if isinstance(error, TokenizerError) else "REQUEST_MALFORMED"
    return InvalidRequest(str(error), code=grpc.StatusCode.INVALID_ARGUMENT, reason=reason)
