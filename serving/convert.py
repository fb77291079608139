"""Requests -> commands. The border: everything that a client can get wrong is checked here, once.

    bytes ──parse_message──> request ──parse_*──> Command

Raises what `status` has a code for: InvalidRequest and its siblings, or a TokenizerError. The way back,
results -> replies, is in `replies`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from serving.commands import (
    DecodeCommand,
    DecodeStreamCommand,
    EncodeCommand,
    OutputForm,
    PictureFormat,
    Pixels,
    Rate,
    TruncateCommand,
)
from serving.config import ServingConfig
from serving.enum_values import check_enum
from serving.model import ServedModel
from serving.status import InvalidRequest, StreamTooShort, Unsupported
from serving.tensors import parse_tensor
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types
from tokenizer import bitstream
from tokenizer.budget import DEFAULT_COVERAGE, TokenBudget
from tokenizer.canvas import Size, choose_canvas, is_canvas
from tokenizer.coding import Coding
from tokenizer.errors import BitstreamError, FingerprintMismatch, ImageMissing, ImageTooLarge
from tokenizer.images import SERVICE_FORMATS, check_size, image_size, sniff_format
from tokenizer.realism import DEFAULT_STEPS, Realism
from tokenizer.sequence import TokenSequence

Request = TypeVar("Request", bound=Message)

# A canvas is rounded to multiples of 16, so its area may exceed the asked one by up to a few percent.
_CANVAS_SLACK = 9 / 8

_FORMAT_NAMES = {
    types.IMAGE_FORMAT_PNG: "PNG",
    types.IMAGE_FORMAT_JPEG: "JPEG",
    types.IMAGE_FORMAT_WEBP: "WEBP",
}
_OUTPUT_FORMATS = {
    types.IMAGE_FORMAT_UNSPECIFIED: PictureFormat.PNG,
    types.IMAGE_FORMAT_PNG: PictureFormat.PNG,
    types.IMAGE_FORMAT_JPEG: PictureFormat.JPEG,
    types.IMAGE_FORMAT_WEBP: PictureFormat.WEBP,
    types.IMAGE_FORMAT_RAW: PictureFormat.RAW,
}
_POLICIES = {
    types.SHORTFALL_POLICY_UNSPECIFIED: False,
    types.SHORTFALL_POLICY_BEST_EFFORT: False,
    types.SHORTFALL_POLICY_FAIL: True,
}
_CODINGS = {
    types.CODING_UNSPECIFIED: None,
    types.CODING_FIXED: Coding.FIXED,
    types.CODING_RANGE: Coding.RANGE,
}
_WEBP_MAX_SIDE_PX = 16_383


def parse_message(kind: type[Request], raw: bytes) -> Request:
    """The message in these bytes. Raises InvalidRequest where there is none."""
    message = kind()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise InvalidRequest(f"these bytes are no {kind.DESCRIPTOR.full_name}") from error
    return message


def parse_encode(
    request: pb.EncodeRequest | pb.EncodeStreamRequest, model: ServedModel, config: ServingConfig
) -> EncodeCommand:
    """A picture with its size known from the header, and a rate."""
    rate = _parse_rate(request.rate)
    coding = _parse_coding(request.options.coding, "options.coding", model)
    canvas_area_px = _parse_canvas_area(request.options.canvas_area_px, model, config)
    source, picture, format_name = _parse_image(request.image, config)
    return EncodeCommand(
        source=source,
        file=picture if isinstance(picture, bytes) else None,
        pixels=None if isinstance(picture, bytes) else picture,
        rate=rate,
        coding=coding,
        canvas_area_px=canvas_area_px,
        include_token_ids=request.options.include_token_ids,
        format=format_name,
    )


def parse_decode(request: pb.DecodeRequest, model: ServedModel, config: ServingConfig) -> DecodeCommand:
    """A stream of this model, whose picture may be made here."""
    realism = _parse_realism(request.options, model)
    whole = _parse_source(request, model, config)
    if whole.fingerprint != model.ref.fingerprint:
        raise FingerprintMismatch(
            f"made by model {whole.fingerprint}, and this server has {model.ref.fingerprint}",
            made_by=whole.fingerprint,
            served=model.ref.fingerprint,
        )
    _check_sizes(whole, config)
    most = model.tokenizer.max_tokens(whole.canvas)
    if whole.length > most:
        raise BitstreamError(f"{whole.length} tokens, and this canvas has at most {most}")
    total = model.whole_length(whole)
    if request.options.strict:
        _check_whole(whole, total)
    sequence = whole.prefix(_parse_max_tokens(request.max_token_count, whole.length))
    form = _parse_output(request.output, whole.source, config)
    was_cut = sequence.length < (whole.length if total is None else total)
    return DecodeCommand(sequence, form, was_cut=was_cut, realism=realism)


def parse_decode_stream(
    request: pb.DecodeStreamRequest, model: ServedModel, config: ServingConfig
) -> DecodeStreamCommand:
    """A stream and the lengths at which to show it; the whole of it comes last."""
    command = parse_decode(request.request, model, config)
    field, given = "preview_token_counts", len(request.preview_token_counts)
    if given > config.max_previews:  # before they are copied: there may be millions
        message = f"at most {config.max_previews} previews, got {given}"
        raise InvalidRequest(message, reason="PREVIEWS_INVALID", field=field)
    counts = tuple(request.preview_token_counts)
    if any(count < 0 for count in counts) or any(a >= b for a, b in pairwise(counts)):
        message = "preview lengths must increase, from 0 up"
        raise InvalidRequest(message, reason="PREVIEWS_INVALID", field=field)
    whole = command.sequence.length
    lengths = (*(count for count in counts if count < whole), whole)
    return DecodeStreamCommand(command.sequence, command.form, lengths, command.realism)


def parse_truncate(request: pb.TruncateRequest, config: ServingConfig) -> TruncateCommand:
    """Any stream, and a limit that needs no model."""
    sequence = _parse_codestream(request.codestream, config)
    rate = _parse_rate(request.rate)
    if rate.budget is not None and rate.budget.min_psnr_db is not None:
        raise Unsupported("a codestream carries no quality; ask Encode for it", field="rate.quality")
    return TruncateCommand(sequence, rate.budget)


def _parse_image(image: types.Image, config: ServingConfig) -> tuple[Size, bytes | Pixels, str]:
    """Size, the file or the pixels of a tensor, and the format as a metric label."""
    declared = image.declared_format
    check_enum(declared, _FORMAT_NAMES.keys() | {0}, "image.declared_format")
    source = image.WhichOneof("source")
    if source == "tensor":
        if declared:
            message = "declared_format is for files, and this is a tensor"
            raise InvalidRequest(message, reason="IMAGE_FORMAT_MISMATCH", field="image.declared_format")
        pixels = parse_tensor(image.tensor, config.image_limits)
        return Size(pixels.shape[1], pixels.shape[0]), pixels, "tensor"
    file = image.encoded  # once: each look at it makes a copy
    if not file:
        raise ImageMissing("there is no picture in this request")
    sniffed = sniff_format(file)
    if declared and sniffed != _FORMAT_NAMES[declared]:
        message = f"declared {_FORMAT_NAMES[declared]}, but these bytes are {sniffed or 'unknown'}"
        raise InvalidRequest(
            message,
            reason="IMAGE_FORMAT_MISMATCH",
            field="image.declared_format",
            metadata={"declared": _FORMAT_NAMES[declared], "sniffed": sniffed or "unknown"},
        )
    size = image_size(file, limits=config.image_limits, formats=SERVICE_FORMATS)
    return size, file, (sniffed or "").lower()


def _parse_rate(rate: types.RateTarget) -> Rate:
    """The budget; TokenBudget itself refuses what is not positive."""
    check_enum(rate.shortfall_policy, _POLICIES, "rate.shortfall_policy")
    fail_short = _POLICIES[rate.shortfall_policy]
    kind = rate.WhichOneof("target")
    if kind == "max_token_count":
        return Rate(TokenBudget(max_tokens=rate.max_token_count), fail_short)
    if kind == "max_size_bytes":
        return Rate(TokenBudget(max_bytes=rate.max_size_bytes), fail_short)
    if kind == "bits_per_pixel":
        return Rate(TokenBudget(bits_per_pixel=rate.bits_per_pixel), fail_short)
    if kind == "quality":
        return Rate(_parse_quality(rate.quality), fail_short)
    return Rate(None, fail_short)


def _parse_quality(quality: types.QualityTarget) -> TokenBudget:
    check_enum(quality.metric, types.QualityMetric.values(), "rate.quality.metric")
    if quality.metric != types.QUALITY_METRIC_PSNR_DB:
        raise InvalidRequest("say which metric", reason="RATE_INVALID", field="rate.quality.metric")
    return TokenBudget(min_psnr_db=quality.min_value, coverage=quality.coverage or DEFAULT_COVERAGE)


def _parse_canvas_area(area_px: int, model: ServedModel, config: ServingConfig) -> int:
    if not 0 <= area_px <= config.max_canvas_area_px:
        message = f"canvas_area_px must be 0..{config.max_canvas_area_px}, got {area_px}"
        raise InvalidRequest(message, reason="OPTION_INVALID", field="options.canvas_area_px")
    return area_px or model.tokenizer.canvas_area_px


def _parse_coding(value: types.Coding, field: str, model: ServedModel) -> Coding:
    """What the request names, else the model's default. Raises Unsupported."""
    check_enum(value, _CODINGS, field)
    codings = model.tokenizer.codings
    coding = _CODINGS[value] or codings[0]
    if coding not in codings:
        message = f"this model has no coding {coding.value}; allowed: {', '.join(codings)}"
        raise Unsupported(message, field=field)
    return coding


def _parse_source(request: pb.DecodeRequest, model: ServedModel, config: ServingConfig) -> TokenSequence:
    if request.WhichOneof("source") == "tokens":
        return _parse_tokens(request.tokens, model, config)
    return _parse_codestream(request.codestream, config)


def _parse_codestream(data: bytes, config: ServingConfig) -> TokenSequence:
    _check_stream_size(len(data), config)
    return bitstream.unpack(data)


def _parse_tokens(message: types.TokenSequence, model: ServedModel, config: ServingConfig) -> TokenSequence:
    """The bare form: the same facts as in a header, and the same limits."""
    _check_stream_size(len(message.tokens), config, may_be_empty=True)
    source = Size(message.source_width_px, message.source_height_px)
    if source.width_px < 1 or source.height_px < 1:
        raise InvalidRequest(
            f"a source has at least one pixel, got {source}",
            reason="CODESTREAM_MALFORMED",
            field="tokens.source_width_px",
        )
    check_size(source, config.image_limits)
    canvas = Size(message.canvas_width_px, message.canvas_height_px)
    if canvas == Size(0, 0):
        canvas = choose_canvas(source)
    if not is_canvas(canvas):
        raise InvalidRequest(
            f"canvas sides are multiples of 16 in 16..4096, got {canvas}",
            reason="CODESTREAM_MALFORMED",
            field="tokens.canvas_width_px",
        )
    coding = _parse_coding(message.coding, "tokens.coding", model)
    return TokenSequence(message.tokens, source, message.fingerprint.lower(), canvas, coding=coding)


def _check_stream_size(size_bytes: int, config: ServingConfig, may_be_empty: bool = False) -> None:
    if size_bytes == 0 and not may_be_empty:
        raise InvalidRequest("there is no codestream", reason="CODESTREAM_MISSING", field="codestream")
    if size_bytes > config.max_codestream_size_bytes:
        raise InvalidRequest(
            f"a codestream may have {config.max_codestream_size_bytes} bytes, got {size_bytes}",
            reason="CODESTREAM_TOO_LARGE",
            field="codestream",
        )


def _check_sizes(sequence: TokenSequence, config: ServingConfig) -> None:
    """A header is twelve bytes that may claim four gigapixels: refuse before any work."""
    check_size(sequence.source, config.image_limits)
    if sequence.canvas.area_px > config.max_canvas_area_px * _CANVAS_SLACK:
        raise ImageTooLarge(
            f"a canvas may have {config.max_canvas_area_px} pixels, got {sequence.canvas}",
            width_px=sequence.canvas.width_px,
            height_px=sequence.canvas.height_px,
            limit=config.max_canvas_area_px,
        )


def _check_whole(sequence: TokenSequence, total: int | None) -> None:
    if total is None:
        raise Unsupported("a range-coded stream does not say whether it is whole", field="options.strict")
    if sequence.length < total:
        metadata = {"have": sequence.length, "need": total}
        raise StreamTooShort("strict: this stream was cut", metadata=metadata)


def _parse_max_tokens(count: int, available: int) -> int:
    if count < 0:
        message = f"max_token_count must be at least 0, got {count}"
        raise InvalidRequest(message, reason="RATE_INVALID", field="max_token_count")
    return min(count, available) if count else available


def _parse_realism(options: pb.DecodeOptions, model: ServedModel) -> Realism:
    """Realism itself refuses what is out of range."""
    realism = Realism(options.realism, options.step_count or DEFAULT_STEPS, options.seed)
    if realism.strength > 0 and not model.has_realism:
        raise Unsupported("this model decodes with realism 0 only", field="options.realism")
    return realism


def _parse_output(output: types.OutputFormat, source: Size, config: ServingConfig) -> OutputForm:
    check_enum(output.format, _OUTPUT_FORMATS, "output.format")
    form = _OUTPUT_FORMATS[output.format]
    lossy = form in (PictureFormat.JPEG, PictureFormat.WEBP)
    if not 0 <= output.quality <= 100 or (output.quality and (not lossy or output.lossless)):
        message = f"quality is 1..100, for JPEG and lossy WebP only; got {output.quality}"
        raise InvalidRequest(message, reason="OPTION_INVALID", field="output.quality")
    if output.lossless and form is not PictureFormat.WEBP:
        raise InvalidRequest("lossless is for WebP", reason="OPTION_INVALID", field="output.lossless")
    _check_output_size(form, source, config)
    return OutputForm(form, output.quality or None, output.lossless)


def _check_output_size(form: PictureFormat, source: Size, config: ServingConfig) -> None:
    """Refuse what can be known before any work; a compressed picture is checked once it is there."""
    if form is PictureFormat.WEBP and max(source.width_px, source.height_px) > _WEBP_MAX_SIDE_PX:
        message = f"WebP sides end at {_WEBP_MAX_SIDE_PX}, and this picture has {source}"
        raise InvalidRequest(message, reason="OUTPUT_TOO_LARGE", field="output.format")
    if form is PictureFormat.RAW and 3 * source.area_px > config.max_response_size_bytes - 4096:
        message = f"{source} as raw pixels is above the reply limit of {config.max_response_size_bytes} bytes"
        raise InvalidRequest(message, reason="OUTPUT_TOO_LARGE", field="output.format")
