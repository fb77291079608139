"""Hostile bytes over the wire: a typed refusal or a result, never UNKNOWN, INTERNAL or a dead server."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from running_server import as_file

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.sequence import TokenSequence

METHODS = ("Encode", "EncodeStream", "Decode", "DecodeStream", "Truncate")
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}
SHORT = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
FINGERPRINT = "0011aabb"


@pytest.fixture
def channel(running):
    with running.channel() as channel:
        yield channel


def send(channel: grpc.Channel, method: str, raw: bytes) -> grpc.StatusCode:
    """Send these bytes as a request; check that a refusal is typed; return the code."""
    path = f"/tessera.v1.TokenizerService/{method}"
    try:
        if method.endswith("Stream"):
            list(channel.unary_stream(path)(raw, timeout=20))
        else:
            channel.unary_unary(path)(raw, timeout=20)
    except grpc.RpcError as error:
        assert error.code() in REFUSALS, error
        info = error_details_pb2.ErrorInfo()
        assert rpc_status.from_call(error).details[0].Unpack(info)
        assert info.domain == "tessera.v1" and info.reason
        return error.code()
    return grpc.StatusCode.OK


@SHORT
@given(method=st.sampled_from(METHODS), raw=st.binary(max_size=200))
def test_random_bytes_are_refused_or_served(channel, method, raw):
    send(channel, method, raw)


ints = st.sampled_from([0, 1, -1, 2, 255, 65_535, 65_536, 2**31 - 1, -(2**31)]) | st.integers(-5, 400)
enums = st.integers(-1, 6)
floats = st.floats(width=64)
rates = st.one_of(
    st.builds(types.RateTarget, max_token_count=ints, shortfall_policy=enums),
    st.builds(types.RateTarget, max_size_bytes=ints, shortfall_policy=enums),
    st.builds(types.RateTarget, bits_per_pixel=floats, shortfall_policy=enums),
    st.builds(
        types.RateTarget,
        quality=st.builds(types.QualityTarget, metric=enums, min_value=floats, coverage=floats),
        shortfall_policy=enums,
    ),
)
tensors = st.builds(
    types.Tensor,
    data_type=enums,
    layout=enums,
    height_px=ints,
    width_px=ints,
    channel_count=ints,
    data=st.binary(max_size=300),
)
PICTURE = np.arange(24 * 40 * 3, dtype=np.uint8).reshape(24, 40, 3)
FILES = [as_file(PICTURE, "PNG"), as_file(PICTURE, "JPEG"), as_file(PICTURE, "WEBP")]


@st.composite
def damaged(draw, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with some of them flipped, and perhaps the end missing."""
    data = bytearray(draw(whole))
    for place in draw(st.lists(st.integers(0, len(data) - 1), max_size=6)):
        data[place] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


images = st.one_of(
    st.builds(types.Image, encoded=damaged(st.sampled_from(FILES)), declared_format=enums),
    st.builds(types.Image, tensor=tensors, declared_format=enums),
)
streams = damaged(
    st.builds(
        lambda tokens, width, height, coding: TokenSequence(
            tokens, Size(width, height), FINGERPRINT, coding=coding
        ).to_bytes(),
        st.binary(max_size=40),
        st.integers(1, 64),
        st.integers(1, 64),
        st.sampled_from(Coding),
    )
)
bare = st.builds(
    types.TokenSequence,
    tokens=st.binary(max_size=40),
    source_width_px=ints,
    source_height_px=ints,
    fingerprint=st.sampled_from([FINGERPRINT, FINGERPRINT.upper(), "", "zz", "é" * 400]),
    canvas_width_px=ints,
    canvas_height_px=ints,
    coding=enums,
)
outputs = st.builds(types.OutputFormat, format=enums, quality=ints, lossless=st.booleans())
decodes = st.one_of(
    st.builds(pb.DecodeRequest, codestream=streams, max_token_count=ints, output=outputs),
    st.builds(pb.DecodeRequest, tokens=bare, max_token_count=ints, output=outputs),
)


@SHORT
@given(
    request=st.builds(
        pb.EncodeRequest,
        image=images,
        rate=rates,
        model=st.sampled_from(["", "fake", "x\r\ny: z"]),
        options=st.builds(
            pb.EncodeOptions, include_token_ids=st.booleans(), canvas_area_px=ints, coding=enums
        ),
    ),
    streamed=st.booleans(),
)
def test_any_encode_request_is_refused_or_served(channel, request, streamed):
    send(channel, "EncodeStream" if streamed else "Encode", request.SerializeToString())


@SHORT
@given(request=decodes)
@example(request=pb.DecodeRequest(codestream=TokenSequence(b"", Size(1, 1), FINGERPRINT).to_bytes()))
def test_any_decode_request_is_refused_or_served(channel, request):
    send(channel, "Decode", request.SerializeToString())


@SHORT
@given(
    request=st.builds(
        pb.DecodeStreamRequest, request=decodes, preview_token_counts=st.lists(ints, max_size=20)
    )
)
def test_any_decode_stream_request_is_refused_or_served(channel, request):
    send(channel, "DecodeStream", request.SerializeToString())


@SHORT
@given(request=st.builds(pb.TruncateRequest, codestream=streams, rate=rates))
def test_any_truncate_request_is_refused_or_served(channel, request):
    send(channel, "Truncate", request.SerializeToString())


def test_a_request_id_from_a_stranger_cannot_break_a_log_line(running, channel, png):
    call = channel.unary_unary("/tessera.v1.TokenizerService/Encode")
    request = pb.EncodeRequest(image=types.Image(encoded=png)).SerializeToString()
    _, good = call.with_call(request, metadata=(("x-request-id", "abc-123"),))
    assert dict(good.trailing_metadata())["x-request-id"] == "abc-123"
    _, bad = call.with_call(request, metadata=(("x-request-id", 'a" b{}' * 20),))
    assert len(dict(bad.trailing_metadata())["x-request-id"]) == 32
