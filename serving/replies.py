"""Results -> replies. Knows protobuf and our types, decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration

from serving.commands import Encoded, Picture, PictureFormat, StopReason
from serving.config import ServingConfig
from serving.model import WARM_UP_SIZE, ModelRef, ServedModel
from serving.rate_limit import RateLimits
from serving.trace import RequestTrace
from tessera.v1 import model_service_pb2 as model_pb
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types
from tokenizer.bitstream import VERSIONS, header_size_bytes
from tokenizer.coding import Coding
from tokenizer.distortion import DistortionCurve
from tokenizer.realism import MAX_STEPS
from tokenizer.sequence import TokenSequence

_STOP_REASONS = {
    StopReason.ALL_TOKENS: types.STOP_REASON_ALL_TOKENS,
    StopReason.TOKEN_LIMIT: types.STOP_REASON_TOKEN_LIMIT,
    StopReason.SIZE_LIMIT: types.STOP_REASON_SIZE_LIMIT,
    StopReason.QUALITY_REACHED: types.STOP_REASON_QUALITY_REACHED,
    StopReason.QUALITY_UNREACHABLE: types.STOP_REASON_QUALITY_UNREACHABLE,
}
_FORMATS = {
    PictureFormat.PNG: types.IMAGE_FORMAT_PNG,
    PictureFormat.JPEG: types.IMAGE_FORMAT_JPEG,
    PictureFormat.WEBP: types.IMAGE_FORMAT_WEBP,
    PictureFormat.RAW: types.IMAGE_FORMAT_RAW,
}
_CODINGS = {Coding.FIXED: types.CODING_FIXED, Coding.RANGE: types.CODING_RANGE}


def encode_reply(
    encoded: Encoded, model: ServedModel, trace: RequestTrace, *, include_token_ids: bool
) -> pb.EncodeResponse:
    """The whole answer to Encode."""
    sequence = encoded.sequence
    stats = pb.EncodeStats(
        predicted_psnr_db=sequence.predicted_psnr_db,
        curve=curve_message(sequence.curve),
        bits_per_pixel=file_bits_per_pixel(sequence),
        stop_reason=_STOP_REASONS[encoded.stop_reason],
    )
    whole_length = encoded.whole.length
    codestream = codestream_message(
        sequence,
        model,
        whole_length=whole_length,
        was_cut=sequence.length < whole_length,
        include_token_ids=include_token_ids,
    )
    return pb.EncodeResponse(codestream=codestream, stats=stats, timings=timings_message(trace))


def codestream_message(
    sequence: TokenSequence,
    model: ServedModel | None,
    *,
    whole_length: int | None,
    was_cut: bool,
    include_token_ids: bool = False,
) -> types.Codestream:
    """A stream with what is known about it; facts of the model that made it only if that is served here."""
    return types.Codestream(
        data=sequence.to_bytes(),
        token_ids=sequence.tokens if include_token_ids else (),
        model=ref_message(model.ref) if model else types.ModelRef(fingerprint=sequence.fingerprint),
        token_count=sequence.length,
        total_token_count=whole_length or 0,
        truncated=was_cut,
        header_size_bytes=header_size_bytes(sequence.source, sequence.canvas),
        source_width_px=sequence.source.width_px,
        source_height_px=sequence.source.height_px,
        canvas_width_px=sequence.canvas.width_px,
        canvas_height_px=sequence.canvas.height_px,
        coding=_CODINGS[sequence.coding],
    )


def truncate_reply(
    whole: TokenSequence, shorter: TokenSequence, model: ServedModel | None
) -> pb.TruncateResponse:
    """The answer to Truncate: what became of a stream, which may itself have been cut before."""
    whole_length = model.whole_length(whole) if model else None
    codestream = codestream_message(
        shorter,
        model,
        whole_length=whole_length,
        was_cut=shorter.length < (whole_length or whole.length),
    )
    return pb.TruncateResponse(codestream=codestream, saved_size_bytes=whole.length - shorter.length)


def stream_header(encoded: Encoded, model: ServedModel) -> pb.EncodeStreamResponse:
    """The first message of EncodeStream: everything but the tokens."""
    sequence = encoded.sequence
    header = pb.StreamHeader(
        data=sequence.prefix(0).to_bytes(),
        model=ref_message(model.ref),
        token_count=sequence.length,
        total_token_count=encoded.whole.length,
        source_width_px=sequence.source.width_px,
        source_height_px=sequence.source.height_px,
        curve=curve_message(sequence.curve),
        stop_reason=_STOP_REASONS[encoded.stop_reason],
        coding=_CODINGS[sequence.coding],
    )
    return pb.EncodeStreamResponse(header=header)


def stream_chunks(
    sequence: TokenSequence, first_chunk_tokens: int, *, include_token_ids: bool
) -> Iterator[pb.EncodeStreamResponse]:
    """The tokens, coarse to fine: a small chunk, then each as long as all before it."""
    header_size = header_size_bytes(sequence.source, sequence.canvas)
    start = 0
    for number, end in enumerate(chunk_ends(sequence.length, first_chunk_tokens)):
        tokens = sequence.tokens[start:end]
        chunk = pb.TokenChunk(
            sequence_number=number,
            first_token_index=start,
            data=tokens,
            token_ids=tokens if include_token_ids else (),
            cumulative_size_bytes=header_size + end,
            predicted_psnr_db=None if sequence.curve is None else sequence.curve.psnr_db_at(end),
        )
        yield pb.EncodeStreamResponse(chunk=chunk)
        start = end


def chunk_ends(length: int, first: int) -> list[int]:
    """Where each chunk ends: few chunks, since each message costs a turn of the event loop.

    >>> chunk_ends(100, 16)
    [16, 32, 64, 100]
    """
    ends = []
    end = first
    while end < length:
        ends.append(end)
        end *= 2
    return [*ends, length] if length else []


def stream_trailer(encoded: Encoded, trace: RequestTrace) -> pb.EncodeStreamResponse:
    """The last message of EncodeStream."""
    trailer = pb.StreamTrailer(
        token_count=encoded.length,
        stop_reason=_STOP_REASONS[encoded.stop_reason],
        timings=timings_message(trace),
    )
    return pb.EncodeStreamResponse(trailer=trailer)


def image_message(picture: Picture) -> types.EncodedImage:
    """A decoded picture."""
    return types.EncodedImage(
        data=picture.data,
        format=_FORMATS[picture.form.format],
        width_px=picture.size.width_px,
        height_px=picture.size.height_px,
        channel_count=3,
    )


def curve_message(curve: DistortionCurve | None) -> types.DistortionCurve | None:
    """The predicted PSNR of each prefix."""
    if curve is None:
        return None
    margins = [
        types.DistortionMargin(coverage=coverage, margin_db=margin)
        for coverage, margin in sorted(curve.margin_db.items())
    ]
    return types.DistortionCurve(lengths=curve.lengths, psnr_db=curve.psnr_db, margins=margins)


def timings_message(trace: RequestTrace) -> types.Timings:
    """Where the time went so far."""
    return types.Timings(
        queue_duration=duration(trace.seconds.get("queue", 0.0)),
        image_decode_duration=duration(trace.seconds.get("image_decode", 0.0)),
        inference_duration=duration(trace.seconds.get("inference", 0.0)),
        image_encode_duration=duration(trace.seconds.get("image_encode", 0.0)),
        total_duration=duration(trace.total_s),
    )


def ref_message(ref: ModelRef) -> types.ModelRef:
    """Name, version and hashes of a model."""
    return types.ModelRef(name=ref.name, version=ref.version, fingerprint=ref.fingerprint, digest=ref.digest)


def model_message(model: ServedModel, *, is_default: bool) -> model_pb.Model:
    """A model as ListModels shows it."""
    return model_pb.Model(
        ref=ref_message(model.ref),
        providers=model.providers,
        max_token_count_256=model.tokenizer.max_tokens(WARM_UP_SIZE),
        predicts_quality=model.predicts_quality,
        default=is_default,
        has_realism=model.has_realism,
        codings=[_CODINGS[coding] for coding in model.tokenizer.codings],
    )


def server_info(
    config: ServingConfig, version: str, rates: RateLimits | None, *, ready: bool
) -> model_pb.GetServerInfoResponse:
    """What this server is, with every limit; `rates` are those of the caller."""
    files = (types.IMAGE_FORMAT_PNG, types.IMAGE_FORMAT_JPEG, types.IMAGE_FORMAT_WEBP)
    return model_pb.GetServerInfoResponse(
        server_version=version,
        codestream_versions=VERSIONS.values(),
        input_formats=files,
        output_formats=[*files, types.IMAGE_FORMAT_RAW],
        limits=limits_message(config, rates),
        ready=ready,
    )


def limits_message(config: ServingConfig, rates: RateLimits | None) -> model_pb.Limits:
    """Every limit that this server keeps."""
    age_s, timeout_s = config.max_connection_age_s, config.decode_timeout_s
    return model_pb.Limits(
        max_request_size_bytes=config.max_request_size_bytes,
        max_response_size_bytes=config.max_response_size_bytes,
        max_image_size_bytes=config.max_image_size_bytes,
        max_image_area_px=config.max_image_area_px,
        max_image_side_px=config.max_image_side_px,
        max_codestream_size_bytes=config.max_codestream_size_bytes,
        max_canvas_area_px=config.max_canvas_area_px,
        max_preview_count=config.max_previews,
        max_concurrent_rpc_count=config.max_concurrent_rpcs,
        max_queue_item_count=config.max_queue_items,
        max_queue_size_bytes=config.max_queue_size_bytes,
        max_batch_item_count=config.max_batch_size,
        default_deadline=duration(config.default_deadline_s),
        max_realism_step_count=MAX_STEPS,
        max_stream_window_item_count=config.max_stream_window_items,
        max_bulk_stream_count=config.max_bulk_streams,
        stream_idle_timeout=duration(config.stream_idle_timeout_s),
        max_concurrent_truncate_count=config.max_concurrent_truncates,
        max_connection_stream_count=config.max_streams_per_connection,
        max_connection_age=duration(age_s) if age_s else None,
        image_decode_timeout=duration(timeout_s) if config.decode_isolation == "process" else None,
        **_rate_fields(rates),
    )


def _rate_fields(rates: RateLimits | None) -> dict[str, Any]:
    """A key without a rate has no burst either."""
    if rates is None or rates.pictures_per_s is rates.megapixels_per_s is None:
        return {}
    return {
        "max_pictures_per_s": rates.pictures_per_s,
        "max_megapixels_per_s": rates.megapixels_per_s,
        "rate_limit_burst": duration(rates.burst_s),
    }


def duration(seconds: float) -> Duration:
    """Seconds as a protobuf message."""
    message = Duration()
    message.FromNanoseconds(int(seconds * 1e9))
    return message


def file_bits_per_pixel(sequence: TokenSequence) -> float:
    """Bits of the whole `.tsr` file per pixel of the source."""
    size_bytes = header_size_bytes(sequence.source, sequence.canvas) + sequence.length
    return 8 * size_bytes / sequence.source.area_px
