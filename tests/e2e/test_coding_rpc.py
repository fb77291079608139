"""Both codings over the wire: asked for, told, kept by a cut, and needed where tokens come bare."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running_server import Running

from serving.client import TokenizerClient
from serving.client.errors import InvalidRequest, Unsupported
from serving.config import ServingConfig
from serving.server import build_server
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types
from tokenizer import Coding, ImageTokenizer, TokenBudget, TokenSequence
from tokenizer.quality import psnr_db

NUMBERS = {Coding.FIXED: types.CODING_FIXED, Coding.RANGE: types.CODING_RANGE}
both = pytest.mark.parametrize("coding", Coding)


def bare(stream: TokenSequence, coding: types.Coding) -> pb.DecodeRequest:
    return pb.DecodeRequest(
        tokens=types.TokenSequence(
            tokens=stream.tokens,
            source_width_px=stream.source.width_px,
            source_height_px=stream.source.height_px,
            fingerprint=stream.fingerprint,
            coding=coding,
        )
    )


def decoded(client: TokenizerClient, request: pb.DecodeRequest) -> pb.DecodeResponse:
    return client._call(client._tokenizer.Decode, request)


def encoded(client: TokenizerClient, png: bytes, coding: int, **rate: int) -> pb.EncodeResponse:
    request = pb.EncodeRequest(
        image=types.Image(encoded=png),
        rate=types.RateTarget(**rate),
        options=pb.EncodeOptions(coding=coding),
    )
    return client._call(client._tokenizer.Encode, request)


@both
def test_the_asked_coding_comes_back_in_every_form_of_the_reply(client, png, coding):
    stream = client.encode(png, coding=coding)
    assert stream.coding is coding
    assert stream.curve is not None
    *_, streamed = client.encode_stream(png, coding=coding)
    assert streamed == stream
    assert streamed.curve == stream.curve
    assert encoded(client, png, NUMBERS[coding]).codestream.coding == NUMBERS[coding]
    request = pb.EncodeStreamRequest(
        image=types.Image(encoded=png), options=pb.EncodeOptions(coding=NUMBERS[coding])
    )
    header = next(client._stream(client._tokenizer.EncodeStream, request)).header
    assert header.coding == NUMBERS[coding]
    assert header.total_token_count == stream.length


def test_range_is_what_an_unspecified_coding_means(client, png):
    reply = encoded(client, png, types.CODING_UNSPECIFIED)
    assert reply.codestream.coding == types.CODING_RANGE
    stream = client.encode(png)
    assert reply.codestream.data == stream.to_bytes()
    whole = decoded(client, pb.DecodeRequest(codestream=stream.to_bytes()))
    assert decoded(client, bare(stream, types.CODING_UNSPECIFIED)).image == whole.image


def test_a_model_with_one_coding_has_it_as_default_and_refuses_the_other(running, client, png):
    running.tokenizer.codings = (Coding.FIXED,)
    assert encoded(client, png, types.CODING_UNSPECIFIED).codestream.coding == types.CODING_FIXED
    assert client.models()[0].codings == (Coding.FIXED,)
    with pytest.raises(Unsupported, match="no coding range; allowed: fixed"):
        client.encode(png, coding=Coding.RANGE)


@both
def test_bare_tokens_show_the_picture_in_their_coding_and_another_in_the_other(client, png, coding):
    stream = client.encode(png, TokenBudget(max_tokens=50), coding=coding)
    whole = decoded(client, pb.DecodeRequest(codestream=stream.to_bytes()))
    (other,) = set(Coding) - {coding}
    assert decoded(client, bare(stream, NUMBERS[coding])).image == whole.image
    assert decoded(client, bare(stream, NUMBERS[other])).image != whole.image


def test_a_coding_from_the_future_is_an_invalid_argument(client, png):
    with pytest.raises(InvalidRequest) as caught:
        decoded(client, bare(client.encode(png), 99))
    assert caught.value.reason == "ENUM_UNKNOWN"


def test_the_client_refuses_a_coding_that_is_none(client, png):
    with pytest.raises(ValueError, match="huffman"):
        client.encode(png, coding="huffman")


@both
def test_a_cut_keeps_the_coding_and_says_that_tokens_are_missing(client, png, coding):
    data = client.encode(png, coding=coding).to_bytes()
    request = pb.TruncateRequest(codestream=data, rate=types.RateTarget(max_token_count=20))
    cut = client._call(client._tokenizer.Truncate, request).codestream
    assert (cut.coding, cut.data, cut.truncated) == (NUMBERS[coding], data[:30], True)


def test_only_the_fixed_coding_tells_how_long_a_stream_was(client, png):
    """The fake's range-coded streams have three quarters of the tokens, as real ones may."""
    for coding, length in ((Coding.FIXED, 2080), (Coding.RANGE, 1560)):
        reply = encoded(client, png, NUMBERS[coding], max_token_count=24).codestream
        assert (reply.token_count, reply.total_token_count, reply.truncated) == (24, length, True)
        whole = encoded(client, png, NUMBERS[coding]).codestream
        assert (whole.token_count, whole.total_token_count, whole.truncated) == (length, length, False)
        known = length if coding is Coding.FIXED else 0
        again = client._call(client._tokenizer.Truncate, pb.TruncateRequest(codestream=whole.data))
        assert (again.codestream.total_token_count, again.codestream.truncated) == (known, False)
        shown = decoded(client, pb.DecodeRequest(codestream=reply.data))
        assert (shown.token_count, shown.total_token_count) == (24, known)


def test_strict_is_for_streams_that_tell_whether_they_are_whole(client, png):
    strict = pb.DecodeOptions(strict=True)
    fixed = client.encode(png, coding=Coding.FIXED).to_bytes()
    assert decoded(client, pb.DecodeRequest(codestream=fixed, options=strict)).token_count == 2080
    with pytest.raises(Unsupported) as caught:
        decoded(client, pb.DecodeRequest(codestream=client.encode(png).to_bytes(), options=strict))
    assert caught.value.reason == "OPERATION_UNSUPPORTED"


def test_the_server_lists_its_codings_and_the_versions_of_their_streams(client):
    (model,) = client.models()
    assert set(model.codings) == set(Coding)
    assert list(client.server_info().codestream_versions) == [1, 2]


@pytest.fixture(scope="module")
def library(tiny_artifact: Path) -> ImageTokenizer:
    return ImageTokenizer.from_pretrained(tiny_artifact)


@pytest.fixture(scope="module")
def real_client(server_loop, library) -> Iterator[TokenizerClient]:
    """Client of a server with the tiny model."""

    async def build():
        server = build_server(ServingConfig(port=0, metrics_port=0), tokenizer=library)
        await server.start()
        await server.load()
        return server

    running = Running(None, library, server_loop)
    running.server = running.call(build(), timeout_s=100)
    with running.client() as client:
        yield client
    running.call(running.server.stop())


@both
def test_the_server_and_the_library_make_the_same_stream_and_picture(real_client, library, photo, coding):
    (expected,) = library.encode([photo], coding=coding)
    served = real_client.encode(photo, coding=coding)
    assert served == expected
    assert served.coding is coding
    (shown,) = library.decode([expected])
    picture = np.asarray(Image.open(io.BytesIO(real_client.decode(served))))
    assert np.array_equal(picture, shown)
    raw = decoded(real_client, bare(served, NUMBERS[coding])).image.data
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(raw))), shown)


def test_streams_of_both_codings_decode_side_by_side(real_client, photo):
    streams = [real_client.encode(photo, coding=coding) for coding in (*Coding, *Coding)]
    with ThreadPoolExecutor(len(streams)) as pool:
        pictures = list(pool.map(real_client.decode, streams))
    alone = [real_client.decode(stream) for stream in streams]
    for together, one in zip(pictures, alone, strict=True):
        shown = (np.asarray(Image.open(io.BytesIO(data))) for data in (together, one))
        assert psnr_db(*shown) > 45  # another batch size may round some values otherwise
