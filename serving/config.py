"""ServingConfig: every number an operator may tune, from TESSERA_* or from flags. Starts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from serving import limits
from serving.cpu import available_cpu_count
from serving.security_settings import SecuritySettings, is_loopback
from tokenizer.canvas import DEFAULT_AREA_PX, MAX_SIDE_PX
from tokenizer.images import ImageLimits
from tokenizer.providers import BATCH_BUCKETS, ProviderOptions

# One pixel while a picture is decoded: four bytes inside Pillow and three of the result (a WebP takes twice
# as much for that moment, `docs/operations.md`). While it waits for the model, it is three.
BYTES_PER_PIXEL_IN_WORK = 8
# What a request carries beside its picture: model name, options, framing.
_REQUEST_OVERHEAD_BYTES = 4096
# The least that RFC 9113, 6.5.2, advises; also room for health, reflection and ModelService.
_LEAST_STREAMS_PER_CONNECTION = 100


class ServingConfig(SecuritySettings):
    """Settings of one server process.

    >>> ServingConfig(port=0, max_batch_size=2).max_batch_size
    2
    """

    model_config = SettingsConfigDict(env_prefix="TESSERA_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all interfaces.")
    port: int = Field(50051, ge=0, le=65535, description="Port of the RPCs; 0 takes a free one.")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics, /livez and /readyz.")
    metrics_port: int = Field(9090, ge=0, le=65535, description="Port of the same; 0 takes a free one.")
    port_file: Path | None = Field(
        None, description="File that receives both ports as JSON once the server serves."
    )

    model: str | None = Field(
        None, min_length=1, description="Name of a shipped model, or a folder with one; unset: the default."
    )
    models: tuple[str, ...] = Field(
        (), description="Several of the same, in place of `model`; the first is the default."
    )
    providers: tuple[str, ...] = Field(("cpu",), description="Execution providers, most wanted first.")
    allow_provider_fallback: bool = Field(
        False, description="Serve with what ONNX Runtime gives where a requested provider is missing."
    )
    gpu_memory_limit_bytes: int = Field(
        0, ge=0, description="Most memory of each graph's arena on the GPU; 0 is no limit."
    )
    cudnn_conv_search: Literal["heuristic", "exhaustive", "default"] = Field(
        "heuristic", description="How cuDNN chooses convolutions; exhaustive for few canvases only."
    )
    cuda_graphs: bool = Field(
        False, description="Record launches per batch bucket and canvas; the model must be all on the GPU."
    )
    tensorrt_cache_dir: Path | None = Field(
        None, description="Folder that keeps TensorRT engines; without it each start takes minutes."
    )
    tensorrt_fp16: bool = Field(False, description="Half precision in TensorRT; changes some tokens.")
    num_threads: int = Field(
        0, ge=0, le=1024, description="Threads of one model call; 0 counts the processors of this cgroup."
    )
    image_threads: int = Field(
        0, ge=0, le=64, description="Threads that decode and encode pictures; 0 means at most 2."
    )

    max_model_calls: int = Field(
        0,
        ge=0,
        le=128,
        description="Most model calls at once, over all models and operations; 0 is two of each instance.",
    )
    model_drain_timeout_s: float = Field(
        60.0, ge=0, description="Longest wait for the requests of a model that is reloaded or unloaded."
    )
    admin_host: str = Field("127.0.0.1", description="Address of AdminService; only this machine's own.")
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="Port of AdminService; unset: there is none; 0 takes a free one."
    )

    max_batch_size: int = Field(4, ge=1, le=256, description="Most pictures in one model call.")
    max_queue_delay_s: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Longest wait of a picture for company; 0 on a CPU, up to 0.002 on a GPU.",
    )
    num_instances: int = Field(
        1, ge=1, le=64, description="Model calls of one operation at once, sharing a session; CPU only."
    )
    max_queue_items: int = Field(32, ge=1, description="Most pictures that wait for one model call.")
    max_queue_size_bytes: int = Field(
        limits.MAX_QUEUE_SIZE_BYTES, ge=1, description="Memory of all pictures in work, at 8 bytes per pixel."
    )
    max_concurrent_rpcs: int = Field(
        128, ge=1, description="Most RPCs in work; health, reflection and ModelService are not counted."
    )
    max_concurrent_truncates: int = Field(64, ge=1, description="Most Truncate RPCs in work.")
    default_deadline_s: float = Field(30.0, gt=0, le=3600, description="Deadline of an RPC without one.")

    max_request_size_bytes: int = Field(
        limits.MAX_REQUEST_SIZE_BYTES, ge=65536, le=2**31 - 1, description="Largest request message."
    )
    max_response_size_bytes: int = Field(
        limits.MAX_RESPONSE_SIZE_BYTES, ge=65536, le=2**31 - 1, description="Largest reply message."
    )
    max_image_size_bytes: int = Field(limits.MAX_IMAGE_SIZE_BYTES, ge=1, description="Largest picture file.")
    max_image_area_px: int = Field(
        50_000_000, ge=1, description="Most pixels of a picture, before encoding or after decoding."
    )
    max_image_side_px: int = Field(16_384, ge=16, le=65_535, description="Longest side of a picture.")
    max_codestream_size_bytes: int = Field(limits.MIB, ge=16, description="Longest codestream.")
    max_canvas_area_px: int = Field(
        2**20, ge=DEFAULT_AREA_PX, le=MAX_SIDE_PX**2, description="Largest grid the model works on."
    )
    max_previews: int = Field(16, ge=1, le=64, description="Most preview lengths of one DecodeStream.")
    first_chunk_tokens: int = Field(
        16, ge=1, description="Tokens in the first chunk of EncodeStream; each chunk doubles the sum."
    )

    max_stream_window_items: int = Field(
        16, ge=1, le=1024, description="Most items of one EncodeMany or DecodeMany in work."
    )
    max_bulk_streams: int = Field(16, ge=1, description="Most EncodeMany and DecodeMany RPCs in work.")
    stream_idle_timeout_s: float = Field(
        60.0, gt=0, le=86_400, description="End such an RPC after it only waited for its client this long."
    )

    drain_delay_s: float = Field(
        0.0, ge=0, description="After SIGTERM, time in which new RPCs are still served."
    )
    drain_timeout_s: float = Field(25.0, ge=0, description="Longest wait for RPCs in work at shutdown.")
    max_connection_age_s: float = Field(
        300.0,
        ge=0,
        description="Ask clients to reconnect after this time, so that new replicas get load; 0 never.",
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level logged.")
    access_log_sample: float = Field(
        1.0, ge=0, le=1, description="Share of good and of shed RPCs that get a log line; others always do."
    )
    max_shed_log_lines_per_s: int = Field(
        10, ge=0, description="Most log lines of shed RPCs in a second; a line says how many were left out."
    )
    tracing: str = Field(
        "off", pattern="^(off|otlp)$", description="Where spans go; otlp needs the extra `otel` and OTEL_*."
    )

    @model_validator(mode="after")
    def _check_limits_fit_each_other(self) -> Self:
        """Refuse settings under which some legal request could never be served."""
        if self.max_image_size_bytes + _REQUEST_OVERHEAD_BYTES > self.max_request_size_bytes:
            raise ValueError(
                f"max_image_size_bytes ({self.max_image_size_bytes}) must be at least "
                f"{_REQUEST_OVERHEAD_BYTES} below max_request_size_bytes ({self.max_request_size_bytes})"
            )
        largest = self.max_image_area_px * BYTES_PER_PIXEL_IN_WORK
        if largest > self.max_queue_size_bytes:
            raise ValueError(
                f"max_queue_size_bytes ({self.max_queue_size_bytes}) is less than one picture of "
                f"max_image_area_px needs ({largest})"
            )
        if self.max_batch_size > self.max_queue_items:
            raise ValueError(
                f"max_batch_size ({self.max_batch_size}) is above max_queue_items ({self.max_queue_items}): "
                "such a batch could never form"
            )
        if 0 < self.max_model_calls < self.num_instances:
            raise ValueError(
                f"num_instances ({self.num_instances}) is above max_model_calls ({self.max_model_calls}): "
                "they could never all work"
            )
        if self.num_instances > 1 and self.providers != ("cpu",):
            raise ValueError(
                f"num_instances ({self.num_instances}) must be 1 with {', '.join(self.providers)}: "
                "a session on a GPU runs in one thread"
            )
        if self.max_codestream_size_bytes + _REQUEST_OVERHEAD_BYTES > self.max_request_size_bytes:
            raise ValueError("max_codestream_size_bytes does not fit max_request_size_bytes")
        return self

    @model_validator(mode="after")
    def _check_keys_stay_secret(self) -> Self:
        self.check_exposure(self.host)
        return self

    @field_validator("admin_host")
    @classmethod
    def _check_admin_host_is_this_machine(cls, host: str) -> str:
        """Whoever reaches the admin port has models of his choice run here."""
        if host != "localhost" and not is_loopback(host):
            raise ValueError(f"must be a loopback address such as 127.0.0.1 or ::1, got {host!r}")
        return host

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        if self.models and self.model is not None:
            raise ValueError("give model or models, not both")
        if "" in self.models or len(set(self.models)) < len(self.models):
            raise ValueError(f"models must be different and not empty, got {list(self.models)}")
        return self

    @property
    def model_sources(self) -> tuple[str, ...]:
        """What is served: names or folders, the default first."""
        return self.models or (self.model or "default",)

    @property
    def effective_num_threads(self) -> int:
        """Threads of one model call, with 0 resolved."""
        return self.num_threads or available_cpu_count()

    @property
    def effective_model_calls(self) -> int:
        """Model calls at once, with 0 resolved: an encode beside a decode in each instance."""
        return self.max_model_calls or 2 * self.num_instances

    @property
    def effective_image_threads(self) -> int:
        """Threads for pictures, with 0 resolved: more runnable threads than processors only add waiting."""
        return self.image_threads or min(2, available_cpu_count())

    @property
    def max_streams_per_connection(self) -> int:
        """RPCs that one connection may have open; gRPC's client keeps further ones to itself.

        Twice what may be in work: one connection (a proxy's, say) can fill every limit, and as many again
        can be on their way to a refusal. A client that waits without a word learns no RetryInfo.
        """
        in_work = self.max_concurrent_rpcs + self.max_concurrent_truncates + self.max_bulk_streams
        return max(_LEAST_STREAMS_PER_CONNECTION, 2 * in_work)

    @property
    def provider_options(self) -> ProviderOptions:
        """How the execution providers are to run."""
        return ProviderOptions(
            allow_fallback=self.allow_provider_fallback,
            gpu_memory_limit_bytes=self.gpu_memory_limit_bytes,
            cudnn_conv_search=self.cudnn_conv_search,
            cuda_graphs=self.cuda_graphs,
            tensorrt_cache_dir=self.tensorrt_cache_dir,
            tensorrt_fp16=self.tensorrt_fp16,
        )

    @property
    def warm_up_batch_sizes(self) -> tuple[int, ...]:
        """Batches to try before serving: on a GPU every bucket, since each has buffers of its own."""
        if self.providers == ("cpu",):
            return tuple(sorted({1, self.max_batch_size}))
        smaller = tuple(size for size in BATCH_BUCKETS if size < self.max_batch_size)
        return (*smaller, self.max_batch_size)

    @property
    def image_limits(self) -> ImageLimits:
        """What a picture is checked against, in its header."""
        return ImageLimits(self.max_image_area_px, self.max_image_side_px, self.max_image_size_bytes)

    def effective(self) -> dict[str, Any]:
        """All settings as they are in force, for the log line at start."""
        values = self.model_dump(mode="json")
        return values | {
            "model": self.model_sources[0],
            "models": self.model_sources,
            "num_threads": self.effective_num_threads,
            "image_threads": self.effective_image_threads,
            "max_model_calls": self.effective_model_calls,
            "max_streams_per_connection": self.max_streams_per_connection,
        }
