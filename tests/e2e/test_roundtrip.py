"""Encode, stream, cut, decode and truncate through a real server."""

from __future__ import annotations

import io

import grpc
import numpy as np
import pytest
from PIL import Image
from running_server import as_file

from serving.client import TokenizerClient
from serving.client.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelMismatch,
    NotFound,
    RequestTooLarge,
    Unsupported,
)
from tessera.v1 import model_service_pb2, model_service_pb2_grpc, tokenizer_service_pb2_grpc
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types
from tokenizer.budget import TokenBudget
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.images import to_rgb_array
from tokenizer.sequence import TokenSequence


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_file_an_array_and_a_pillow_image_give_the_same_stream(client, photo, png):
    from_file = client.encode(png)
    assert client.encode(photo) == from_file
    assert client.encode(Image.fromarray(photo)) == from_file
    assert from_file.source == Size(320, 208)


def test_decode_restores_the_source_size_in_every_format(client, png):
    stream = client.encode(png)
    for format in ("png", "jpeg", "webp"):
        assert opened(client.decode(stream, format)).shape == (208, 320, 3)
    raw = np.frombuffer(client.decode(stream, "raw"), np.uint8).reshape(208, 320, 3)
    assert np.array_equal(raw, opened(client.decode(stream, "png")))
    assert np.array_equal(raw, opened(client.decode(stream, "webp", lossless=True)))


@pytest.mark.parametrize(
    ("budget", "length"),
    [
        (TokenBudget(max_tokens=24), 24),
        (TokenBudget(max_bytes=64), 54),
        (TokenBudget(bits_per_pixel=0.01), 320 * 208 * 0.01 // 8 - 10),
        (TokenBudget(max_tokens=10**6), 1560),
    ],
)
def test_a_budget_is_kept_and_never_exceeded(client, png, budget, length):
    assert client.encode(png, budget).length == length


def test_a_quality_target_gives_the_shortest_length_that_the_curve_promises(client, png):
    whole = client.encode(png)
    asked = client.encode(png, TokenBudget(min_psnr_db=20.0))
    assert asked.length == whole.curve.shortest_length(20.0, 0.9) < whole.length
    assert asked.curve == whole.curve
    assert asked.predicted_psnr_db >= 20.0


def test_an_unreachable_quality_sends_all_tokens_or_fails_as_asked(running, client, png):
    assert client.encode(png, TokenBudget(min_psnr_db=60.0)).length == client.encode(png).length
    rate = types.RateTarget(
        quality=types.QualityTarget(metric=types.QUALITY_METRIC_PSNR_DB, min_value=60.0),
        shortfall_policy=types.SHORTFALL_POLICY_FAIL,
    )
    with running.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        stub.Encode(pb.EncodeRequest(image=types.Image(encoded=png), rate=rate))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    running.expect(1, "tessera_rate_targets_total", kind="quality", result="unreachable")


def test_fewer_bytes_than_a_header_and_one_token_is_refused_with_the_least_that_works(client, png):
    with pytest.raises(InvalidRequest) as caught:
        client.encode(png, TokenBudget(max_bytes=10))
    assert caught.value.reason == "RATE_UNREACHABLE"
    least = int(caught.value.metadata["min_size_bytes"])
    assert client.encode(png, TokenBudget(max_bytes=least)).length == 1


def test_every_prefix_of_an_encode_stream_decodes(client, png):
    prefixes = list(client.encode_stream(png))
    whole = client.encode(png)
    assert prefixes[-1] == whole
    assert [prefix.length for prefix in prefixes[:4]] == [16, 32, 64, 128]
    for prefix in prefixes:
        assert whole.tokens.startswith(prefix.tokens)
        assert opened(client.decode(prefix.to_bytes())).shape == (208, 320, 3)


def test_a_stream_cut_at_any_byte_after_the_header_decodes(client, photo):
    data = client.encode(photo[:32, :32]).to_bytes()
    for size_bytes in range(10, len(data) + 1):
        assert opened(client.decode(data[:size_bytes])).shape == (32, 32, 3)
    for size_bytes in range(10):
        with pytest.raises(InvalidRequest):
            client.decode(data[:size_bytes])


def test_a_reader_may_leave_an_encode_stream_in_the_middle(running, client, png):
    stream = client.encode_stream(png)
    first = next(stream)
    stream.close()
    assert first.length == 16
    assert opened(client.decode(first)).shape == (208, 320, 3)
    running.eventually(lambda: running.sample("tessera_in_flight_requests") == 0)


def test_the_stream_ends_with_a_trailer_that_says_why(running, png):
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        request = pb.EncodeStreamRequest(
            image=types.Image(encoded=png),
            rate=types.RateTarget(max_size_bytes=100),
            options=pb.EncodeOptions(include_token_ids=True),
        )
        replies = list(stub.EncodeStream(request))
    header, *chunks, trailer = replies
    assert header.WhichOneof("payload") == "header"
    assert trailer.trailer.stop_reason == types.STOP_REASON_SIZE_LIMIT
    data = header.header.data + b"".join(reply.chunk.data for reply in chunks)
    assert len(data) == 100 == chunks[-1].chunk.cumulative_size_bytes
    assert TokenSequence.from_bytes(data).length == trailer.trailer.token_count == header.header.token_count
    ids = [token for reply in chunks for token in reply.chunk.token_ids]
    assert bytes(ids) == TokenSequence.from_bytes(data).tokens
    assert [reply.chunk.sequence_number for reply in chunks] == list(range(len(chunks)))


def test_decode_stream_shows_the_asked_lengths_and_then_the_whole(client, png):
    stream = client.encode(png, TokenBudget(max_tokens=200))
    previews = list(client.decode_stream(stream, at=[24, 64, 500]))
    assert [preview.token_count for preview in previews] == [24, 64, 200]
    assert [preview.last for preview in previews] == [False, False, True]
    assert previews[0].image == client.decode(stream, max_tokens=24)


def test_truncate_is_the_same_as_cutting_the_bytes(client, png):
    data = client.encode(png).to_bytes()
    assert client.truncate(data, max_bytes=128) == data[:128]
    assert client.truncate(data, max_tokens=24) == data[:34]
    assert client.truncate(data, max_bytes=10**6) == data


def test_truncate_needs_no_model_and_takes_streams_of_any(client, png):
    data = TokenSequence(bytes(100), Size(64, 64), "ffffffff").to_bytes()
    assert client.truncate(data, max_bytes=50) == data[:50]


def test_truncate_cannot_know_a_quality(running, client, png):
    request = pb.TruncateRequest(
        codestream=client.encode(png).to_bytes(),
        rate=types.RateTarget(quality=types.QualityTarget(metric=types.QUALITY_METRIC_PSNR_DB, min_value=20)),
    )
    with pytest.raises(Unsupported):
        client._call(client._tokenizer.Truncate, request)


def test_the_bare_form_decodes_like_the_file(running, client, png):
    stream = client.encode(png, TokenBudget(max_tokens=50))
    bare = types.TokenSequence(
        tokens=stream.tokens, source_width_px=320, source_height_px=208, fingerprint=stream.fingerprint
    )
    assert stream.coding is Coding.RANGE
    reply = client._call(client._tokenizer.Decode, pb.DecodeRequest(tokens=bare))
    assert reply.image.data == client.decode(stream)
    assert reply.token_count == 50
    assert reply.timings.total_duration.ToNanoseconds() > 0


def test_a_stream_of_another_model_is_a_mismatch_and_never_a_picture(client):
    foreign = TokenSequence(bytes(100), Size(64, 64), "ffffffff")
    with pytest.raises(ModelMismatch) as caught:
        client.decode(foreign)
    assert caught.value.reason == "MODEL_MISMATCH"


def test_a_header_that_claims_a_huge_picture_is_refused_before_any_work(running, client):
    huge = TokenSequence(bytes(16), Size(65_535, 65_535), running.tokenizer.fingerprint)
    with pytest.raises(InvalidRequest) as caught:
        client.decode(huge)
    assert caught.value.reason == "IMAGE_TOO_LARGE"
    assert running.tokenizer.calls == []


def test_a_header_that_claims_a_huge_canvas_is_refused_before_any_work(running, client):
    huge = TokenSequence(bytes(16), Size(64, 64), running.tokenizer.fingerprint, Size(4096, 4096))
    with pytest.raises(InvalidRequest):
        client.decode(huge)
    assert running.tokenizer.calls == []


def test_more_tokens_than_the_canvas_has_are_refused(running, client):
    long = TokenSequence(bytes(5000), Size(64, 64), running.tokenizer.fingerprint)
    with pytest.raises(InvalidRequest) as caught:
        client.decode(long)
    assert caught.value.reason == "CODESTREAM_MALFORMED"


def test_strict_refuses_a_cut_stream_and_says_what_is_missing(client, png):
    cut = client.encode(png, TokenBudget(max_tokens=7), coding=Coding.FIXED).to_bytes()
    request = pb.DecodeRequest(codestream=cut, options=pb.DecodeOptions(strict=True))
    with pytest.raises(ModelMismatch) as caught:
        client._call(client._tokenizer.Decode, request)
    assert caught.value.reason == "CODESTREAM_TRUNCATED"
    assert (caught.value.metadata["have"], caught.value.metadata["need"]) == ("7", "2080")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "IMAGE_MISSING"),
        (b"GIF89a not for servers", "IMAGE_FORMAT_UNSUPPORTED"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "IMAGE_FORMAT_UNSUPPORTED"),
        (b"\x89PNG\r\n\x1a\n and then nothing", "IMAGE_CORRUPT"),
    ],
)
def test_bad_pictures_get_the_reason_of_what_is_wrong(client, data, reason):
    with pytest.raises(InvalidRequest) as caught:
        client.encode(data)
    assert caught.value.reason == reason
    assert caught.value.request_id == caught.value.metadata["request_id"] != ""


def test_a_picture_cut_short_is_corrupt_and_no_internal_error(client, png):
    with pytest.raises(InvalidRequest) as caught:
        client.encode(png[: len(png) // 2])
    assert caught.value.reason == "IMAGE_CORRUPT"


def test_a_bomb_is_refused_from_its_header(running, client, bomb_png):
    assert len(bomb_png) < 200
    with pytest.raises(InvalidRequest) as caught:
        client.encode(bomb_png)
    assert caught.value.reason == "IMAGE_TOO_LARGE"
    assert int(caught.value.metadata["width_px"]) > int(caught.value.metadata["limit"]) == 16_384
    assert running.tokenizer.calls == []


def test_a_declared_format_must_be_true(client, png):
    request = pb.EncodeRequest(
        image=types.Image(encoded=png, declared_format=types.IMAGE_FORMAT_JPEG),
    )
    with pytest.raises(InvalidRequest) as caught:
        client._call(client._tokenizer.Encode, request)
    assert caught.value.reason == "IMAGE_FORMAT_MISMATCH"
    assert (caught.value.metadata["declared"], caught.value.metadata["sniffed"]) == ("JPEG", "PNG")


@pytest.mark.parametrize(
    "request_",
    [
        pb.EncodeRequest(rate=types.RateTarget(shortfall_policy=99)),
        pb.EncodeRequest(image=types.Image(encoded=b"x", declared_format=99)),
        pb.EncodeRequest(rate=types.RateTarget(quality=types.QualityTarget(metric=99, min_value=1))),
        pb.EncodeRequest(options=pb.EncodeOptions(coding=99)),
    ],
)
def test_an_enum_value_from_the_future_is_an_invalid_argument(client, request_):
    with pytest.raises(InvalidRequest) as caught:
        client._call(client._tokenizer.Encode, request_)
    assert caught.value.reason == "ENUM_UNKNOWN"


def test_a_model_goes_by_name_and_version(running, client, png):
    for name in ("", "fake", "fake@1"):
        request = pb.EncodeRequest(model=name, image=types.Image(encoded=png))
        assert client._call(client._tokenizer.Encode, request).codestream.model.name == "fake"
    with pytest.raises(NotFound) as caught:
        client._call(client._tokenizer.Encode, pb.EncodeRequest(model="fake@2"))
    assert caught.value.reason == "MODEL_NOT_FOUND"


def test_upright_and_sideways_photographs_keep_the_size_the_viewer_sees(client, photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = as_file(photo, "JPEG", exif=exif)
    assert client.encode(sideways).source == Size(208, 320)
    assert to_rgb_array(Image.open(io.BytesIO(client.decode(client.encode(sideways))))).shape == (320, 208, 3)


def test_a_request_above_the_limit_is_not_even_sent(client):
    with pytest.raises(RequestTooLarge):
        client.encode(bytes(18 * 2**20))


def test_a_client_without_patience_gets_deadline_exceeded(running, png):
    running.tokenizer.gate.clear()
    with running.client(timeout_s=0.2) as client, pytest.raises(DeadlineExceeded):
        client.encode(png)


def test_models_and_limits_can_be_asked_for(running, client):
    (model,) = client.models()
    assert (model.name, model.fingerprint, model.predicts_quality) == ("fake", "0011aabb", True)
    info = client.server_info()
    assert info.ready
    assert info.limits.max_image_area_px == running.server.config.max_image_area_px
    with running.channel() as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        assert stub.GetModel(model_service_pb2.GetModelRequest(name="fake")).model.default


def test_two_calls_to_one_client_may_run_at_once(running, client: TokenizerClient, png):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        streams = list(pool.map(lambda _: client.encode(png), range(24)))
    assert len({stream.tokens for stream in streams}) == 1
