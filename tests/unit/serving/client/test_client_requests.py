"""Requests and replies without a channel: what is sent for what was asked, and what is read from it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image

from serving.client import replies, requests
from serving.client.errors import RequestTooLarge
from tessera.v1 import model_service_pb2 as model_pb
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types
from tokenizer.budget import TokenBudget
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.errors import InvalidBudget
from tokenizer.realism import Realism
from tokenizer.sequence import TokenSequence

STREAM = TokenSequence(bytes(range(64)), Size(60, 40), "0011aabb")


@pytest.mark.parametrize(
    ("budget", "rate"),
    [
        (None, types.RateTarget()),
        (TokenBudget(max_tokens=7), types.RateTarget(max_token_count=7)),
        (TokenBudget(max_bytes=99), types.RateTarget(max_size_bytes=99)),
        (TokenBudget(bits_per_pixel=0.25), types.RateTarget(bits_per_pixel=0.25)),
        (
            TokenBudget(min_psnr_db=24.5, coverage=0.8),
            types.RateTarget(
                quality=types.QualityTarget(metric=types.QUALITY_METRIC_PSNR_DB, min_value=24.5, coverage=0.8)
            ),
        ),
    ],
)
def test_a_budget_is_the_target_of_the_same_name(budget, rate):
    assert requests.encode_request(b"png", budget).rate == rate


@pytest.mark.parametrize("mode", ["verify", "exact"])
def test_a_search_is_refused_since_a_server_makes_none(mode):
    with pytest.raises(InvalidBudget, match="local only"):
        requests.encode_request(b"png", TokenBudget(min_psnr_db=20.0, mode=mode))


def test_model_coding_and_canvas_reach_the_request():
    request = requests.encode_request(b"png", coding=Coding.FIXED, canvas_area_px=4096, model="a@2")
    assert (request.model, request.options.coding) == ("a@2", types.CODING_FIXED)
    assert request.options.canvas_area_px == 4096
    streamed = requests.encode_stream_request(request)
    assert pb.EncodeRequest.FromString(streamed.SerializeToString()) == request


def test_a_file_goes_as_it_is_and_pixels_as_a_tensor():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    assert requests.image_message(b"any bytes", 100).encoded == b"any bytes"
    for image in (pixels, Image.fromarray(pixels), pixels[:, ::-1][:, ::-1]):
        tensor = requests.image_message(image, 100).tensor
        assert (tensor.height_px, tensor.width_px, tensor.channel_count) == (4, 6, 3)
        assert tensor.data == pixels.tobytes()


def test_pixels_that_do_not_fit_go_as_png():
    pixels = np.zeros((8, 8, 3), np.uint8)
    message = requests.image_message(pixels, pixels.nbytes - 1)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(message.encoded))), pixels)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), "photo.jpg"]
)
def test_what_is_no_picture_is_refused_with_what_it_is(image):
    with pytest.raises(ValueError, match="pixels must be uint8"):
        requests.image_message(image, 100)


def test_a_decode_of_no_tokens_is_no_decode_of_all():
    assert requests.decode_request(STREAM, max_tokens=0).codestream == STREAM.prefix(0).to_bytes()
    assert requests.decode_request(STREAM.to_bytes(), max_tokens=9).codestream == STREAM.prefix(9).to_bytes()
    assert requests.decode_request(STREAM).max_token_count == 0


def test_decode_options_reach_the_request():
    request = requests.decode_request(
        STREAM, "webp", lossless=True, quality=3, realism=Realism(0.5, 2, 7), strict=True, model="a"
    )
    assert request.output == types.OutputFormat(format=types.IMAGE_FORMAT_WEBP, lossless=True, quality=3)
    assert request.options == pb.DecodeOptions(realism=0.5, step_count=2, seed=7, strict=True)
    assert requests.decode_stream_request(request, [1, 5]).request.model == "a"


def test_truncating_needs_exactly_one_limit():
    request = requests.truncate_request(STREAM, None, 8, None)
    assert (request.codestream, request.rate.max_token_count) == (STREAM.to_bytes(), 8)
    for limits in ((None, None, None), (10, 8, None)):
        with pytest.raises(InvalidBudget, match="exactly one limit"):
            requests.truncate_request(STREAM, *limits)


def test_a_size_is_checked_against_the_whole_message():
    request = requests.encode_request(bytes(100))
    requests.check_size(request, request.ByteSize())
    with pytest.raises(RequestTooLarge):
        requests.check_size(request, request.ByteSize() - 1)


def test_a_truncated_stream_comes_back_in_the_form_it_was_given():
    reply = pb.TruncateResponse(codestream=types.Codestream(data=STREAM.prefix(5).to_bytes()))
    assert replies.truncated(reply, STREAM) == STREAM.prefix(5)
    assert replies.truncated(reply, STREAM.to_bytes()) == STREAM.prefix(5).to_bytes()


def test_values_from_a_newer_server_are_left_out_and_missing_ones_are_zero():
    model = replies.model_info(model_pb.Model(codings=[types.CODING_RANGE, 77]))
    assert model.codings == (Coding.RANGE,)
    info = replies.server_info(model_pb.GetServerInfoResponse(input_formats=[types.IMAGE_FORMAT_PNG, 77]))
    assert info.input_formats == ("png",)
    assert info.limits.max_request_size_bytes == info.limits.default_deadline_s == 0


def test_every_limit_of_the_wire_is_told():
    fields = model_pb.Limits.DESCRIPTOR.fields
    names = {f"{field.name}_s" if field.message_type else field.name for field in fields}
    assert names == set(replies.Limits.__dataclass_fields__)
    told = model_pb.Limits(max_connection_stream_count=416, max_connection_age=Duration(seconds=300))
    limits = replies.server_info(model_pb.GetServerInfoResponse(limits=told)).limits
    assert (limits.max_connection_stream_count, limits.max_connection_age_s) == (416, 300.0)
    assert (limits.image_decode_timeout_s, limits.max_pictures_per_s) == (0, 0)
