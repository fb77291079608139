"""Pictures -> the bytes of requests, made once, so that a run only sends. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving.load.pictures import LoadPicture
from serving.load.plan import RpcKind
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types

SERVICE = pb.DESCRIPTOR.services_by_name["TokenizerService"].full_name
Requests = Mapping[RpcKind, Sequence[bytes]]
_SOURCES_PICTURES = (RpcKind.ENCODE, RpcKind.ENCODE_STREAM)
# Lengths of the previews of one DecodeStream: a placeholder, a thumbnail, a picture, the rest.
_PREVIEWS = (24, 128, 512)
# Header and a few tokens.
_MIN_SIZE_BYTES = 32


def paths() -> dict[RpcKind, str]:
    """`/service/Method` of each call."""
    names = {kind: "".join(part.title() for part in kind.value.split("_")) for kind in RpcKind}
    return {kind: f"/{SERVICE}/{name}" for kind, name in names.items()}


def needs_streams(kind: RpcKind) -> bool:
    """True if the call takes codestreams, which a server must make first."""
    return kind not in _SOURCES_PICTURES


def build(
    kind: RpcKind,
    pictures: Sequence[LoadPicture],
    streams: Sequence[bytes],
    max_size_bytes: int | None = None,
) -> list[bytes]:
    """One request for each picture or stream; `max_size_bytes` is the budget of encodes."""
    if not needs_streams(kind):
        rate = types.RateTarget(max_size_bytes=max_size_bytes) if max_size_bytes else None
        message: Any = pb.EncodeRequest if kind is RpcKind.ENCODE else pb.EncodeStreamRequest
        made = [message(image=_image(picture), rate=rate) for picture in pictures]
    else:
        made = [_OF_STREAMS[kind](stream) for stream in streams]
    return [bytes(request.SerializeToString()) for request in made]


def codestream(reply: bytes) -> bytes:
    """The codestream in the bytes of an EncodeResponse."""
    return bytes(pb.EncodeResponse.FromString(reply).codestream.data)


def _image(picture: LoadPicture) -> types.Image:
    if picture.file is not None:
        return types.Image(encoded=picture.file)
    assert picture.pixels is not None  # one of the two is set
    tensor = types.Tensor(
        data_type=types.DATA_TYPE_UINT8,
        layout=types.TENSOR_LAYOUT_HWC,
        height_px=picture.size.height_px,
        width_px=picture.size.width_px,
        channel_count=3,
        data=picture.pixels.tobytes(),
    )
    return types.Image(tensor=tensor)


def _decode(stream: bytes) -> pb.DecodeRequest:
    return pb.DecodeRequest(codestream=stream, output=types.OutputFormat(format=types.IMAGE_FORMAT_JPEG))


def _decode_stream(stream: bytes) -> pb.DecodeStreamRequest:
    return pb.DecodeStreamRequest(request=_decode(stream), preview_token_counts=_PREVIEWS)


def _truncate(stream: bytes) -> pb.TruncateRequest:
    rate = types.RateTarget(max_size_bytes=max(_MIN_SIZE_BYTES, len(stream) // 4))
    return pb.TruncateRequest(codestream=stream, rate=rate)


_OF_STREAMS: Mapping[RpcKind, Callable[[bytes], Any]] = {
    RpcKind.DECODE: _decode,
    RpcKind.DECODE_STREAM: _decode_stream,
    RpcKind.TRUNCATE: _truncate,
}
