"""Pictures -> the bytes of requests, made once, so that a run only sends. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.rpc.status_pb2 import Status

from serving.load.pictures import LoadPicture
from serving.load.plan import RpcKind
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types

SERVICE = pb.DESCRIPTOR.services_by_name["TokenizerService"].full_name
Requests = Mapping[RpcKind, Sequence[bytes]]
_SOURCES_PICTURES = (RpcKind.ENCODE, RpcKind.ENCODE_STREAM, RpcKind.ENCODE_MANY)
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
    """One request for each picture or stream; `max_size_bytes` is the budget of encodes.

    Items of bulk streams have no number yet: see `numbered`.
    """
    if not needs_streams(kind):
        rate = types.RateTarget(max_size_bytes=max_size_bytes) if max_size_bytes else None
        made = [_OF_PICTURES[kind](_image(picture), rate) for picture in pictures]
    else:
        made = [_OF_STREAMS[kind](stream) for stream in streams]
    return [bytes(request.SerializeToString()) for request in made]


def numbered(item_id: int, item: bytes) -> bytes:
    """The item of a bulk stream with its number: serialized messages, one after the other, merge."""
    return bytes(pb.EncodeManyRequest(item_id=item_id).SerializeToString()) + item


def item_failure(kind: RpcKind, reply: bytes) -> Status | None:
    """What the item that this reply answers failed with; None if it did not."""
    response: Any = pb.EncodeManyResponse if kind is RpcKind.ENCODE_MANY else pb.DecodeManyResponse
    answer = response.FromString(reply)
    return answer.error if answer.HasField("error") else None


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


def _encode(image: types.Image, rate: types.RateTarget | None) -> pb.EncodeRequest:
    return pb.EncodeRequest(image=image, rate=rate)


def _encode_stream(image: types.Image, rate: types.RateTarget | None) -> pb.EncodeStreamRequest:
    return pb.EncodeStreamRequest(image=image, rate=rate)


def _encode_item(image: types.Image, rate: types.RateTarget | None) -> pb.EncodeManyRequest:
    return pb.EncodeManyRequest(request=_encode(image, rate))


def _decode(stream: bytes) -> pb.DecodeRequest:
    return pb.DecodeRequest(codestream=stream, output=types.OutputFormat(format=types.IMAGE_FORMAT_JPEG))


def _decode_stream(stream: bytes) -> pb.DecodeStreamRequest:
    return pb.DecodeStreamRequest(request=_decode(stream), preview_token_counts=_PREVIEWS)


def _decode_item(stream: bytes) -> pb.DecodeManyRequest:
    return pb.DecodeManyRequest(request=_decode(stream))


def _truncate(stream: bytes) -> pb.TruncateRequest:
    rate = types.RateTarget(max_size_bytes=max(_MIN_SIZE_BYTES, len(stream) // 4))
    return pb.TruncateRequest(codestream=stream, rate=rate)


_OF_PICTURES: Mapping[RpcKind, Callable[[types.Image, types.RateTarget | None], Any]] = {
    RpcKind.ENCODE: _encode,
    RpcKind.ENCODE_STREAM: _encode_stream,
    RpcKind.ENCODE_MANY: _encode_item,
}
_OF_STREAMS: Mapping[RpcKind, Callable[[bytes], Any]] = {
    RpcKind.DECODE: _decode,
    RpcKind.DECODE_STREAM: _decode_stream,
    RpcKind.TRUNCATE: _truncate,
    RpcKind.DECODE_MANY: _decode_item,
}
