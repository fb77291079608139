from google.rpc import status_pb2 as _status_pb2
from tessera.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EncodeRequest(_message.Message):
    __slots__ = ("model", "image", "rate", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    image: _types_pb2.Image
    rate: _types_pb2.RateTarget
    options: EncodeOptions
    def __init__(self, model: _Optional[str] = ..., image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ..., rate: _Optional[_Union[_types_pb2.RateTarget, _Mapping]] = ..., options: _Optional[_Union[EncodeOptions, _Mapping]] = ...) -> None: ...

class EncodeOptions(_message.Message):
    __slots__ = ("include_token_ids", "canvas_area_px", "coding")
    INCLUDE_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CANVAS_AREA_PX_FIELD_NUMBER: _ClassVar[int]
    CODING_FIELD_NUMBER: _ClassVar[int]
    include_token_ids: bool
    canvas_area_px: int
    coding: _types_pb2.Coding
    def __init__(self, include_token_ids: bool = ..., canvas_area_px: _Optional[int] = ..., coding: _Optional[_Union[_types_pb2.Coding, str]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("codestream", "stats", "timings")
    CODESTREAM_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    codestream: _types_pb2.Codestream
    stats: EncodeStats
    timings: _types_pb2.Timings
    def __init__(self, codestream: _Optional[_Union[_types_pb2.Codestream, _Mapping]] = ..., stats: _Optional[_Union[EncodeStats, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ...) -> None: ...

class EncodeStats(_message.Message):
    __slots__ = ("predicted_psnr_db", "curve", "bits_per_pixel", "stop_reason")
    PREDICTED_PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    BITS_PER_PIXEL_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    predicted_psnr_db: float
    curve: _types_pb2.DistortionCurve
    bits_per_pixel: float
    stop_reason: _types_pb2.StopReason
    def __init__(self, predicted_psnr_db: _Optional[float] = ..., curve: _Optional[_Union[_types_pb2.DistortionCurve, _Mapping]] = ..., bits_per_pixel: _Optional[float] = ..., stop_reason: _Optional[_Union[_types_pb2.StopReason, str]] = ...) -> None: ...

class EncodeStreamRequest(_message.Message):
    __slots__ = ("model", "image", "rate", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    image: _types_pb2.Image
    rate: _types_pb2.RateTarget
    options: EncodeOptions
    def __init__(self, model: _Optional[str] = ..., image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ..., rate: _Optional[_Union[_types_pb2.RateTarget, _Mapping]] = ..., options: _Optional[_Union[EncodeOptions, _Mapping]] = ...) -> None: ...

class EncodeStreamResponse(_message.Message):
    __slots__ = ("header", "chunk", "trailer")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    TRAILER_FIELD_NUMBER: _ClassVar[int]
    header: StreamHeader
    chunk: TokenChunk
    trailer: StreamTrailer
    def __init__(self, header: _Optional[_Union[StreamHeader, _Mapping]] = ..., chunk: _Optional[_Union[TokenChunk, _Mapping]] = ..., trailer: _Optional[_Union[StreamTrailer, _Mapping]] = ...) -> None: ...

class StreamHeader(_message.Message):
    __slots__ = ("data", "model", "token_count", "total_token_count", "source_width_px", "source_height_px", "curve", "stop_reason", "coding")
    DATA_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    SOURCE_HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    CODING_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    model: _types_pb2.ModelRef
    token_count: int
    total_token_count: int
    source_width_px: int
    source_height_px: int
    curve: _types_pb2.DistortionCurve
    stop_reason: _types_pb2.StopReason
    coding: _types_pb2.Coding
    def __init__(self, data: _Optional[bytes] = ..., model: _Optional[_Union[_types_pb2.ModelRef, _Mapping]] = ..., token_count: _Optional[int] = ..., total_token_count: _Optional[int] = ..., source_width_px: _Optional[int] = ..., source_height_px: _Optional[int] = ..., curve: _Optional[_Union[_types_pb2.DistortionCurve, _Mapping]] = ..., stop_reason: _Optional[_Union[_types_pb2.StopReason, str]] = ..., coding: _Optional[_Union[_types_pb2.Coding, str]] = ...) -> None: ...

class TokenChunk(_message.Message):
    __slots__ = ("sequence_number", "first_token_index", "data", "token_ids", "cumulative_size_bytes", "predicted_psnr_db")
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_INDEX_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CUMULATIVE_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    sequence_number: int
    first_token_index: int
    data: bytes
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    cumulative_size_bytes: int
    predicted_psnr_db: float
    def __init__(self, sequence_number: _Optional[int] = ..., first_token_index: _Optional[int] = ..., data: _Optional[bytes] = ..., token_ids: _Optional[_Iterable[int]] = ..., cumulative_size_bytes: _Optional[int] = ..., predicted_psnr_db: _Optional[float] = ...) -> None: ...

class StreamTrailer(_message.Message):
    __slots__ = ("token_count", "stop_reason", "timings")
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    token_count: int
    stop_reason: _types_pb2.StopReason
    timings: _types_pb2.Timings
    def __init__(self, token_count: _Optional[int] = ..., stop_reason: _Optional[_Union[_types_pb2.StopReason, str]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ...) -> None: ...

class DecodeRequest(_message.Message):
    __slots__ = ("codestream", "tokens", "max_token_count", "output", "options", "model")
    CODESTREAM_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    codestream: bytes
    tokens: _types_pb2.TokenSequence
    max_token_count: int
    output: _types_pb2.OutputFormat
    options: DecodeOptions
    model: str
    def __init__(self, codestream: _Optional[bytes] = ..., tokens: _Optional[_Union[_types_pb2.TokenSequence, _Mapping]] = ..., max_token_count: _Optional[int] = ..., output: _Optional[_Union[_types_pb2.OutputFormat, _Mapping]] = ..., options: _Optional[_Union[DecodeOptions, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class DecodeOptions(_message.Message):
    __slots__ = ("strict", "seed", "realism", "step_count")
    STRICT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REALISM_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    strict: bool
    seed: int
    realism: float
    step_count: int
    def __init__(self, strict: bool = ..., seed: _Optional[int] = ..., realism: _Optional[float] = ..., step_count: _Optional[int] = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("image", "token_count", "total_token_count", "model", "timings")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    image: _types_pb2.EncodedImage
    token_count: int
    total_token_count: int
    model: _types_pb2.ModelRef
    timings: _types_pb2.Timings
    def __init__(self, image: _Optional[_Union[_types_pb2.EncodedImage, _Mapping]] = ..., token_count: _Optional[int] = ..., total_token_count: _Optional[int] = ..., model: _Optional[_Union[_types_pb2.ModelRef, _Mapping]] = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ...) -> None: ...

class DecodeStreamRequest(_message.Message):
    __slots__ = ("request", "preview_token_counts")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_TOKEN_COUNTS_FIELD_NUMBER: _ClassVar[int]
    request: DecodeRequest
    preview_token_counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request: _Optional[_Union[DecodeRequest, _Mapping]] = ..., preview_token_counts: _Optional[_Iterable[int]] = ...) -> None: ...

class DecodeStreamResponse(_message.Message):
    __slots__ = ("preview_index", "token_count", "image", "last", "timings")
    PREVIEW_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    preview_index: int
    token_count: int
    image: _types_pb2.EncodedImage
    last: bool
    timings: _types_pb2.Timings
    def __init__(self, preview_index: _Optional[int] = ..., token_count: _Optional[int] = ..., image: _Optional[_Union[_types_pb2.EncodedImage, _Mapping]] = ..., last: bool = ..., timings: _Optional[_Union[_types_pb2.Timings, _Mapping]] = ...) -> None: ...

class TruncateRequest(_message.Message):
    __slots__ = ("codestream", "rate")
    CODESTREAM_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    codestream: bytes
    rate: _types_pb2.RateTarget
    def __init__(self, codestream: _Optional[bytes] = ..., rate: _Optional[_Union[_types_pb2.RateTarget, _Mapping]] = ...) -> None: ...

class TruncateResponse(_message.Message):
    __slots__ = ("codestream", "saved_size_bytes")
    CODESTREAM_FIELD_NUMBER: _ClassVar[int]
    SAVED_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    codestream: _types_pb2.Codestream
    saved_size_bytes: int
    def __init__(self, codestream: _Optional[_Union[_types_pb2.Codestream, _Mapping]] = ..., saved_size_bytes: _Optional[int] = ...) -> None: ...

class EncodeManyRequest(_message.Message):
    __slots__ = ("item_id", "request")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    item_id: int
    request: EncodeRequest
    def __init__(self, item_id: _Optional[int] = ..., request: _Optional[_Union[EncodeRequest, _Mapping]] = ...) -> None: ...

class EncodeManyResponse(_message.Message):
    __slots__ = ("item_id", "response", "error")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    item_id: int
    response: EncodeResponse
    error: _status_pb2.Status
    def __init__(self, item_id: _Optional[int] = ..., response: _Optional[_Union[EncodeResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class DecodeManyRequest(_message.Message):
    __slots__ = ("item_id", "request")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    item_id: int
    request: DecodeRequest
    def __init__(self, item_id: _Optional[int] = ..., request: _Optional[_Union[DecodeRequest, _Mapping]] = ...) -> None: ...

class DecodeManyResponse(_message.Message):
    __slots__ = ("item_id", "response", "error")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    item_id: int
    response: DecodeResponse
    error: _status_pb2.Status
    def __init__(self, item_id: _Optional[int] = ..., response: _Optional[_Union[DecodeResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
