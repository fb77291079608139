"""Which model a request is for: what it names, and which one made the stream in it. Knows no models."""

from __future__ import annotations

from typing import NamedTuple

from tessera.v1 import tokenizer_service_pb2 as pb
from tokenizer import bitstream
from tokenizer.errors import BitstreamError


class WantedModel(NamedTuple):
    """What `ModelRegistry.lease` takes."""

    name: str
    fingerprint: str = ""


def wanted_model(
    request: pb.EncodeRequest | pb.EncodeStreamRequest | pb.DecodeRequest | pb.DecodeStreamRequest,
) -> WantedModel:
    """The name in the request, and the fingerprint of the stream that it brings; both may be empty."""
    if isinstance(request, pb.DecodeStreamRequest):
        return wanted_model(request.request)
    if isinstance(request, pb.DecodeRequest):
        return WantedModel(request.model, _fingerprint(request))
    return WantedModel(request.model)


def _fingerprint(request: pb.DecodeRequest) -> str:
    """Empty where the stream has no header that can be read: `convert` will say what is wrong with it."""
    if request.WhichOneof("source") == "tokens":
        return request.tokens.fingerprint.lower()
    try:
        return bitstream.unpack(request.codestream[: bitstream.MAX_HEADER_SIZE_BYTES]).fingerprint
    except BitstreamError:
        return ""
