from google.protobuf import duration_pb2 as _duration_pb2
from tessera.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Model(_message.Message):
    __slots__ = ("ref", "providers", "max_token_count_256", "predicts_quality", "default", "has_realism", "codings")
    REF_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKEN_COUNT_256_FIELD_NUMBER: _ClassVar[int]
    PREDICTS_QUALITY_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    HAS_REALISM_FIELD_NUMBER: _ClassVar[int]
    CODINGS_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.ModelRef
    providers: _containers.RepeatedScalarFieldContainer[str]
    max_token_count_256: int
    predicts_quality: bool
    default: bool
    has_realism: bool
    codings: _containers.RepeatedScalarFieldContainer[_types_pb2.Coding]
    def __init__(self, ref: _Optional[_Union[_types_pb2.ModelRef, _Mapping]] = ..., providers: _Optional[_Iterable[str]] = ..., max_token_count_256: _Optional[int] = ..., predicts_quality: bool = ..., default: bool = ..., has_realism: bool = ..., codings: _Optional[_Iterable[_Union[_types_pb2.Coding, str]]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("server_version", "codestream_versions", "input_formats", "output_formats", "limits", "ready")
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    CODESTREAM_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FORMATS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMATS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    server_version: str
    codestream_versions: _containers.RepeatedScalarFieldContainer[int]
    input_formats: _containers.RepeatedScalarFieldContainer[_types_pb2.ImageFormat]
    output_formats: _containers.RepeatedScalarFieldContainer[_types_pb2.ImageFormat]
    limits: Limits
    ready: bool
    def __init__(self, server_version: _Optional[str] = ..., codestream_versions: _Optional[_Iterable[int]] = ..., input_formats: _Optional[_Iterable[_Union[_types_pb2.ImageFormat, str]]] = ..., output_formats: _Optional[_Iterable[_Union[_types_pb2.ImageFormat, str]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., ready: bool = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_request_size_bytes", "max_response_size_bytes", "max_image_size_bytes", "max_image_area_px", "max_image_side_px", "max_codestream_size_bytes", "max_canvas_area_px", "max_preview_count", "max_concurrent_rpc_count", "max_queue_item_count", "max_queue_size_bytes", "max_batch_item_count", "default_deadline", "max_realism_step_count", "max_stream_window_item_count", "max_bulk_stream_count", "stream_idle_timeout", "max_concurrent_truncate_count", "max_connection_stream_count", "max_connection_age", "image_decode_timeout", "max_pictures_per_s", "max_megapixels_per_s", "rate_limit_burst")
    MAX_REQUEST_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_RESPONSE_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_AREA_PX_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    MAX_CODESTREAM_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CANVAS_AREA_PX_FIELD_NUMBER: _ClassVar[int]
    MAX_PREVIEW_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_RPC_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUE_ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUE_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    MAX_REALISM_STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_WINDOW_ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_BULK_STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    STREAM_IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_TRUNCATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_CONNECTION_STREAM_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_CONNECTION_AGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DECODE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MAX_PICTURES_PER_S_FIELD_NUMBER: _ClassVar[int]
    MAX_MEGAPIXELS_PER_S_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMIT_BURST_FIELD_NUMBER: _ClassVar[int]
    max_request_size_bytes: int
    max_response_size_bytes: int
    max_image_size_bytes: int
    max_image_area_px: int
    max_image_side_px: int
    max_codestream_size_bytes: int
    max_canvas_area_px: int
    max_preview_count: int
    max_concurrent_rpc_count: int
    max_queue_item_count: int
    max_queue_size_bytes: int
    max_batch_item_count: int
    default_deadline: _duration_pb2.Duration
    max_realism_step_count: int
    max_stream_window_item_count: int
    max_bulk_stream_count: int
    stream_idle_timeout: _duration_pb2.Duration
    max_concurrent_truncate_count: int
    max_connection_stream_count: int
    max_connection_age: _duration_pb2.Duration
    image_decode_timeout: _duration_pb2.Duration
    max_pictures_per_s: float
    max_megapixels_per_s: float
    rate_limit_burst: _duration_pb2.Duration
    def __init__(self, max_request_size_bytes: _Optional[int] = ..., max_response_size_bytes: _Optional[int] = ..., max_image_size_bytes: _Optional[int] = ..., max_image_area_px: _Optional[int] = ..., max_image_side_px: _Optional[int] = ..., max_codestream_size_bytes: _Optional[int] = ..., max_canvas_area_px: _Optional[int] = ..., max_preview_count: _Optional[int] = ..., max_concurrent_rpc_count: _Optional[int] = ..., max_queue_item_count: _Optional[int] = ..., max_queue_size_bytes: _Optional[int] = ..., max_batch_item_count: _Optional[int] = ..., default_deadline: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_realism_step_count: _Optional[int] = ..., max_stream_window_item_count: _Optional[int] = ..., max_bulk_stream_count: _Optional[int] = ..., stream_idle_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_concurrent_truncate_count: _Optional[int] = ..., max_connection_stream_count: _Optional[int] = ..., max_connection_age: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., image_decode_timeout: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., max_pictures_per_s: _Optional[float] = ..., max_megapixels_per_s: _Optional[float] = ..., rate_limit_burst: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...
