"""Pictures that come as numbers -> uint8 RGB. Knows no files.

    uint8      0..255                      as they are
    float      0..1, little-endian         to the nearest of 0..255

What a float tensor says between two steps of 1/255 is lost: the model reads uint8, as all picture files do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.commands import Pixels
from serving.enum_values import check_enum
from serving.status import InvalidRequest
from tessera.v1 import types_pb2 as types
from tokenizer.canvas import Size
from tokenizer.images import ImageLimits, check_size

_DTYPES: dict[int, np.dtype[Any]] = {
    types.DATA_TYPE_UNSPECIFIED: np.dtype(np.uint8),
    types.DATA_TYPE_UINT8: np.dtype(np.uint8),
    types.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    types.DATA_TYPE_FLOAT32: np.dtype("<f4"),
}


def parse_tensor(tensor: types.Tensor, limits: ImageLimits) -> Pixels:
    """uint8[H, W, 3]; a view of the message's bytes wherever type and layout allow.

    Raises InvalidRequest, ImageTooLarge.
    """
    check_enum(tensor.data_type, _DTYPES, "image.tensor.data_type")
    check_enum(tensor.layout, types.TensorLayout.values(), "image.tensor.layout")
    width, height, channels = tensor.width_px, tensor.height_px, tensor.channel_count
    if channels not in (1, 3):
        message = f"channel_count must be 1 or 3, got {channels}"
        raise InvalidRequest(message, reason="TENSOR_SHAPE_UNSUPPORTED", field="image.tensor.channel_count")
    dtype, data = _DTYPES[tensor.data_type], tensor.data
    if width < 1 or height < 1 or width * height * channels * dtype.itemsize != len(data):
        message = f"{width}x{height}x{channels} of {dtype.name} does not hold {len(data)} bytes"
        raise InvalidRequest(message, reason="TENSOR_SIZE_MISMATCH", field="image.tensor.data")
    check_size(Size(width, height), limits)
    values = np.frombuffer(data, dtype)
    if dtype.kind == "f":
        values = _to_uint8(values)
    if tensor.layout == types.TENSOR_LAYOUT_CHW:
        pixels = np.ascontiguousarray(values.reshape(channels, height, width).transpose(1, 2, 0))
    else:
        pixels = values.reshape(height, width, channels)
    return pixels if channels == 3 else np.repeat(pixels, 3, axis=2)


def _to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Nothing is clipped: values beyond 0..1 are most often 0..255 or -1..1, and would be another picture."""
    is_legal = (values >= 0) & (values <= 1)  # not so for NaN
    if not is_legal.all():
        index = int(np.argmin(is_legal))
        value = float(values[index])
        raise InvalidRequest(
            f"float values must be 0..1, got {value:g} at index {index} of the data",
            reason="TENSOR_VALUE_INVALID",
            field="image.tensor.data",
            metadata={"index": index, "value": f"{value:g}"},
        )
    scaled = values.astype(np.float32)
    scaled *= 255
    return np.rint(scaled, out=scaled).astype(np.uint8)
