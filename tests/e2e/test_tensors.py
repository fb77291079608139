"""Pictures sent as numbers, not as files."""

from __future__ import annotations

import numpy as np
import pytest

from serving.client.errors import InvalidRequest
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 4, 2), (4, 5, 3), (-4, -4, 3), (2**31 - 1, 2**31 - 1, 3)])
def test_a_tensor_must_be_what_its_shape_says(client, shape):
    height, width, channels = shape
    tensor = types.Tensor(height_px=height, width_px=width, channel_count=channels, data=bytes(48))
    with pytest.raises(InvalidRequest) as caught:
        client._call(client._tokenizer.Encode, pb.EncodeRequest(image=types.Image(tensor=tensor)))
    assert caught.value.reason in ("TENSOR_SIZE_MISMATCH", "TENSOR_SHAPE_UNSUPPORTED")


@pytest.mark.parametrize(
    ("data_type", "dtype"), [(types.DATA_TYPE_FLOAT32, "<f4"), (types.DATA_TYPE_FLOAT16, "<f2")]
)
@pytest.mark.parametrize("layout", [types.TENSOR_LAYOUT_HWC, types.TENSOR_LAYOUT_CHW])
def test_a_float_tensor_is_the_picture_of_the_nearest_bytes(client, photo, data_type, dtype, layout):
    # Halves have 11 bits: enough to tell 256 steps apart.
    values = (photo / 255).astype(dtype)
    if layout == types.TENSOR_LAYOUT_CHW:
        values = values.transpose(2, 0, 1)
    tensor = types.Tensor(
        data_type=data_type,
        layout=layout,
        height_px=208,
        width_px=320,
        channel_count=3,
        data=values.tobytes(),
    )
    reply = client._call(client._tokenizer.Encode, pb.EncodeRequest(image=types.Image(tensor=tensor)))
    assert reply.codestream.data == client.encode(photo).to_bytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01, 255])
@pytest.mark.parametrize(
    ("data_type", "dtype"), [(types.DATA_TYPE_FLOAT32, "<f4"), (types.DATA_TYPE_FLOAT16, "<f2")]
)
def test_a_float_that_is_no_brightness_is_refused_with_its_place(client, data_type, dtype, value):
    values = np.full(48, 0.5, dtype)
    values[17] = values[30] = value
    tensor = types.Tensor(
        data_type=data_type, height_px=4, width_px=4, channel_count=3, data=values.tobytes()
    )
    with pytest.raises(InvalidRequest) as caught:
        client._call(client._tokenizer.Encode, pb.EncodeRequest(image=types.Image(tensor=tensor)))
    assert caught.value.reason == "TENSOR_VALUE_INVALID"
    assert caught.value.metadata["index"] == "17"
    assert float(caught.value.metadata["value"]) == pytest.approx(value, rel=1e-2, nan_ok=True)


@pytest.mark.parametrize("size_bytes", [48, 96, 191])
def test_a_float_tensor_must_have_all_of_its_bytes(client, size_bytes):
    tensor = types.Tensor(
        data_type=types.DATA_TYPE_FLOAT32, height_px=4, width_px=4, channel_count=3, data=bytes(size_bytes)
    )
    with pytest.raises(InvalidRequest) as caught:
        client._call(client._tokenizer.Encode, pb.EncodeRequest(image=types.Image(tensor=tensor)))
    assert caught.value.reason == "TENSOR_SIZE_MISMATCH"


def test_planar_and_grey_tensors_are_the_picture_they_hold(client, photo):
    planar = types.Tensor(
        layout=types.TENSOR_LAYOUT_CHW,
        height_px=208,
        width_px=320,
        channel_count=3,
        data=photo.transpose(2, 0, 1).tobytes(),
    )
    reply = client._call(client._tokenizer.Encode, pb.EncodeRequest(image=types.Image(tensor=planar)))
    assert reply.codestream.data == client.encode(photo).to_bytes()
    grey = types.Tensor(height_px=208, width_px=320, channel_count=1, data=photo[:, :, 0].tobytes())
    reply = client._call(client._tokenizer.Encode, pb.EncodeRequest(image=types.Image(tensor=grey)))
    assert reply.codestream.data == client.encode(np.repeat(photo[:, :, :1], 3, axis=2)).to_bytes()
