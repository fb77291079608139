from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_JPEG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_WEBP: _ClassVar[ImageFormat]
    IMAGE_FORMAT_RAW: _ClassVar[ImageFormat]

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_FLOAT16: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]

class TensorLayout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TENSOR_LAYOUT_UNSPECIFIED: _ClassVar[TensorLayout]
    TENSOR_LAYOUT_HWC: _ClassVar[TensorLayout]
    TENSOR_LAYOUT_CHW: _ClassVar[TensorLayout]

class Coding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODING_UNSPECIFIED: _ClassVar[Coding]
    CODING_FIXED: _ClassVar[Coding]
    CODING_RANGE: _ClassVar[Coding]

class QualityMetric(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUALITY_METRIC_UNSPECIFIED: _ClassVar[QualityMetric]
    QUALITY_METRIC_PSNR_DB: _ClassVar[QualityMetric]

class ShortfallPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHORTFALL_POLICY_UNSPECIFIED: _ClassVar[ShortfallPolicy]
    SHORTFALL_POLICY_BEST_EFFORT: _ClassVar[ShortfallPolicy]
    SHORTFALL_POLICY_FAIL: _ClassVar[ShortfallPolicy]

class StopReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STOP_REASON_UNSPECIFIED: _ClassVar[StopReason]
    STOP_REASON_ALL_TOKENS: _ClassVar[StopReason]
    STOP_REASON_TOKEN_LIMIT: _ClassVar[StopReason]
    STOP_REASON_SIZE_LIMIT: _ClassVar[StopReason]
    STOP_REASON_QUALITY_REACHED: _ClassVar[StopReason]
    STOP_REASON_QUALITY_UNREACHABLE: _ClassVar[StopReason]
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_PNG: ImageFormat
IMAGE_FORMAT_JPEG: ImageFormat
IMAGE_FORMAT_WEBP: ImageFormat
IMAGE_FORMAT_RAW: ImageFormat
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_FLOAT16: DataType
DATA_TYPE_FLOAT32: DataType
TENSOR_LAYOUT_UNSPECIFIED: TensorLayout
TENSOR_LAYOUT_HWC: TensorLayout
TENSOR_LAYOUT_CHW: TensorLayout
CODING_UNSPECIFIED: Coding
CODING_FIXED: Coding
CODING_RANGE: Coding
QUALITY_METRIC_UNSPECIFIED: QualityMetric
QUALITY_METRIC_PSNR_DB: QualityMetric
SHORTFALL_POLICY_UNSPECIFIED: ShortfallPolicy
SHORTFALL_POLICY_BEST_EFFORT: ShortfallPolicy
SHORTFALL_POLICY_FAIL: ShortfallPolicy
STOP_REASON_UNSPECIFIED: StopReason
STOP_REASON_ALL_TOKENS: StopReason
STOP_REASON_TOKEN_LIMIT: StopReason
STOP_REASON_SIZE_LIMIT: StopReason
STOP_REASON_QUALITY_REACHED: StopReason
STOP_REASON_QUALITY_UNREACHABLE: StopReason

class Image(_message.Message):
    __slots__ = ("encoded", "tensor", "declared_format")
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FORMAT_FIELD_NUMBER: _ClassVar[int]
    encoded: bytes
    tensor: Tensor
    declared_format: ImageFormat
    def __init__(self, encoded: _Optional[bytes] = ..., tensor: _Optional[_Union[Tensor, _Mapping]] = ..., declared_format: _Optional[_Union[ImageFormat, str]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("data_type", "layout", "height_px", "width_px", "channel_count", "data")
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    data_type: DataType
    layout: TensorLayout
    height_px: int
    width_px: int
    channel_count: int
    data: bytes
    def __init__(self, data_type: _Optional[_Union[DataType, str]] = ..., layout: _Optional[_Union[TensorLayout, str]] = ..., height_px: _Optional[int] = ..., width_px: _Optional[int] = ..., channel_count: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class RateTarget(_message.Message):
    __slots__ = ("max_token_count", "max_size_bytes", "quality", "bits_per_pixel", "shortfall_policy")
    MAX_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    BITS_PER_PIXEL_FIELD_NUMBER: _ClassVar[int]
    SHORTFALL_POLICY_FIELD_NUMBER: _ClassVar[int]
    max_token_count: int
    max_size_bytes: int
    quality: QualityTarget
    bits_per_pixel: float
    shortfall_policy: ShortfallPolicy
    def __init__(self, max_token_count: _Optional[int] = ..., max_size_bytes: _Optional[int] = ..., quality: _Optional[_Union[QualityTarget, _Mapping]] = ..., bits_per_pixel: _Optional[float] = ..., shortfall_policy: _Optional[_Union[ShortfallPolicy, str]] = ...) -> None: ...

class QualityTarget(_message.Message):
    __slots__ = ("metric", "min_value", "coverage")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    MIN_VALUE_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    metric: QualityMetric
    min_value: float
    coverage: float
    def __init__(self, metric: _Optional[_Union[QualityMetric, str]] = ..., min_value: _Optional[float] = ..., coverage: _Optional[float] = ...) -> None: ...

class ModelRef(_message.Message):
    __slots__ = ("name", "version", "fingerprint", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    fingerprint: str
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., fingerprint: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class DistortionCurve(_message.Message):
    __slots__ = ("lengths", "psnr_db", "margins")
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    MARGINS_FIELD_NUMBER: _ClassVar[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    psnr_db: _containers.RepeatedScalarFieldContainer[float]
    margins: _containers.RepeatedCompositeFieldContainer[DistortionMargin]
    def __init__(self, lengths: _Optional[_Iterable[int]] = ..., psnr_db: _Optional[_Iterable[float]] = ..., margins: _Optional[_Iterable[_Union[DistortionMargin, _Mapping]]] = ...) -> None: ...

class DistortionMargin(_message.Message):
    __slots__ = ("coverage", "margin_db")
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    MARGIN_DB_FIELD_NUMBER: _ClassVar[int]
    coverage: float
    margin_db: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, coverage: _Optional[float] = ..., margin_db: _Optional[_Iterable[float]] = ...) -> None: ...

class Codestream(_message.Message):
    __slots__ = ("data", "token_ids", "model", "token_count", "total_token_count", "truncated", "header_size_bytes", "source_width_px", "source_height_px", "canvas_width_px", "canvas_height_px", "coding")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    HEADER_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    SOURCE_HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    CANVAS_WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    CANVAS_HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    CODING_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    model: ModelRef
    token_count: int
    total_token_count: int
    truncated: bool
    header_size_bytes: int
    source_width_px: int
    source_height_px: int
    canvas_width_px: int
    canvas_height_px: int
    coding: Coding
    def __init__(self, data: _Optional[bytes] = ..., token_ids: _Optional[_Iterable[int]] = ..., model: _Optional[_Union[ModelRef, _Mapping]] = ..., token_count: _Optional[int] = ..., total_token_count: _Optional[int] = ..., truncated: bool = ..., header_size_bytes: _Optional[int] = ..., source_width_px: _Optional[int] = ..., source_height_px: _Optional[int] = ..., canvas_width_px: _Optional[int] = ..., canvas_height_px: _Optional[int] = ..., coding: _Optional[_Union[Coding, str]] = ...) -> None: ...

class TokenSequence(_message.Message):
    __slots__ = ("tokens", "source_width_px", "source_height_px", "fingerprint", "canvas_width_px", "canvas_height_px", "coding")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    SOURCE_HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CANVAS_WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    CANVAS_HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    CODING_FIELD_NUMBER: _ClassVar[int]
    tokens: bytes
    source_width_px: int
    source_height_px: int
    fingerprint: str
    canvas_width_px: int
    canvas_height_px: int
    coding: Coding
    def __init__(self, tokens: _Optional[bytes] = ..., source_width_px: _Optional[int] = ..., source_height_px: _Optional[int] = ..., fingerprint: _Optional[str] = ..., canvas_width_px: _Optional[int] = ..., canvas_height_px: _Optional[int] = ..., coding: _Optional[_Union[Coding, str]] = ...) -> None: ...

class OutputFormat(_message.Message):
    __slots__ = ("format", "quality", "lossless")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    LOSSLESS_FIELD_NUMBER: _ClassVar[int]
    format: ImageFormat
    quality: int
    lossless: bool
    def __init__(self, format: _Optional[_Union[ImageFormat, str]] = ..., quality: _Optional[int] = ..., lossless: bool = ...) -> None: ...

class EncodedImage(_message.Message):
    __slots__ = ("data", "format", "width_px", "height_px", "channel_count")
    DATA_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    format: ImageFormat
    width_px: int
    height_px: int
    channel_count: int
    def __init__(self, data: _Optional[bytes] = ..., format: _Optional[_Union[ImageFormat, str]] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ..., channel_count: _Optional[int] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_duration", "image_decode_duration", "inference_duration", "image_encode_duration", "total_duration")
    QUEUE_DURATION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DECODE_DURATION_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_DURATION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ENCODE_DURATION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_DURATION_FIELD_NUMBER: _ClassVar[int]
    queue_duration: _duration_pb2.Duration
    image_decode_duration: _duration_pb2.Duration
    inference_duration: _duration_pb2.Duration
    image_encode_duration: _duration_pb2.Duration
    total_duration: _duration_pb2.Duration
    def __init__(self, queue_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., image_decode_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., inference_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., image_encode_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., total_duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...
