"""Every metric, declared once, with closed label sets and all series there from the start.

`grpc_server_*` follow go-grpc-middleware, so that public
dashboards work; the rest begins with `tessera_`. Callers say what happened, in words of their own.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from serving.metrics import sets
from serving.status import INVALID_REASONS

# A `_created` gauge beside every counter and histogram would double the scrape, and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = CONTENT_TYPE_LATEST
Rpc = tuple[str, str, str]
"""grpc_type, grpc_service, grpc_method."""


class Metrics:
    """All series of one server. `rpcs` are the methods that it serves."""

    def __init__(self, rpcs: Iterable[Rpc]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._model = "unknown"
        self._declare_rpcs()
        self._declare_work()
        self._declare_streams()
        self._declare_model()
        self._create_rpc_series((*rpcs, sets.UNKNOWN_RPC))
        self._create_method_series()

    def exposition(self) -> bytes:
        """What /metrics answers."""
        return generate_latest(self.registry)

    # RPCs ------------------------------------------------------------------------------------------------

    def rpc_started(self, rpc: Rpc) -> None:
        """An RPC reached the server."""
        self._started.labels(*rpc).inc()

    def rpc_handled(self, rpc: Rpc, code: grpc.StatusCode, seconds: float) -> None:
        """An RPC ended, in any way."""
        self._handled.labels(*rpc, sets.code_name(code)).inc()
        self._handling.labels(*rpc).observe(seconds)

    def message_received(self, rpc: Rpc) -> None:
        """A request message came in."""
        self._received.labels(*rpc).inc()

    def message_sent(self, rpc: Rpc) -> None:
        """A reply message went out."""
        self._sent.labels(*rpc).inc()

    # Admission -------------------------------------------------------------------------------------------

    def in_flight(self, method: str, change: int) -> None:
        """An RPC was admitted (+1) or is done (-1)."""
        self._in_flight.labels(method).inc(change)

    def rejected(self, method: str, reason: str) -> None:
        """An RPC was shed."""
        self._rejected.labels(method, reason).inc()

    def invalid(self, method: str, reason: str) -> None:
        """An RPC was refused because of its content."""
        if method in sets.WORK_METHODS and reason in INVALID_REASONS:
            self._invalid.labels(method, reason).inc()

    def abandoned(self, method: str, *, by_deadline: bool, place: str) -> None:
        """The client left, or its time ran out."""
        self._abandoned.labels(method, "deadline" if by_deadline else "client_cancel", place).inc()

    def queue_items(self, op: str, count: int) -> None:
        """How many pictures wait for a model call."""
        self._queue_items.labels(self._model, op).set(count)

    def queue_bytes(self, op: str, change: int) -> None:
        """Memory of pictures in work."""
        self._queue_bytes.labels(self._model, op).inc(change)

    # Work ------------------------------------------------------------------------------------------------

    def batch(self, op: str, size: int, trigger: str) -> None:
        """A batch goes to the model."""
        self._batch_size.labels(self._model, op).observe(size)
        self._batches.labels(self._model, op, trigger).inc()

    def waited(self, op: str, seconds: float) -> None:
        """A picture waited this long for its model call."""
        self._queue_wait.labels(self._model, op).observe(seconds)

    def wasted(self, op: str, seconds: float) -> None:
        """Model time whose result nobody reads."""
        self._wasted.labels(self._model, op).inc(seconds)

    def stages(self, op: str, seconds: dict[str, float]) -> None:
        """Where the time of one served request went."""
        for stage in sets.STAGES[op]:
            if stage in seconds:
                self._stage.labels(self._model, op, stage).observe(seconds[stage])

    def image(self, op: str, format: str, area_px: int, size_bytes: int) -> None:
        """A picture came in (encode) or went out (decode)."""
        self._images.labels(op, format).inc()
        self._image_area.labels(op).observe(area_px)
        self._image_size.labels(op).observe(size_bytes)

    def tokens(self, op: str, count: int) -> None:
        """Tokens sent (encode, truncate) or read (decode)."""
        self._tokens.labels(self._model, op).inc(count)
        if op in sets.OPS:
            self._tokens_per_image.labels(self._model, op).observe(count)

    def codestream(self, size_bytes: int, bits_per_pixel: float) -> None:
        """A stream of this size was made."""
        self._codestream_size.labels(self._model).observe(size_bytes)
        self._codestream_bpp.labels(self._model).observe(bits_per_pixel)

    def rate_target(self, kind: str, result: str) -> None:
        """What was asked for, and whether it was kept."""
        self._rate_targets.labels(self._model, kind, result).inc()

    def decoded_cut_stream(self) -> None:
        """A stream that is known to lack tokens was decoded."""
        self._decode_truncated.labels(self._model).inc()

    def truncated(self, saved_bytes: int) -> None:
        """Truncate made a stream shorter by this much."""
        self._truncate_saved.labels(self._model).inc(saved_bytes)

    def first_chunk(self, method: str, seconds: float) -> None:
        """A stream sent its first chunk, this long after the request came."""
        self._first_chunk.labels(method).observe(seconds)
        self._chunks.labels(method).inc()

    def next_chunk(self, method: str, seconds: float) -> None:
        """A stream sent a further chunk, this long after the one before."""
        self._chunk_interval.labels(method).observe(seconds)
        self._chunks.labels(method).inc()

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop woke up."""
        self._loop_lag.observe(seconds)

    # Model -----------------------------------------------------------------------------------------------

    def build(self, *, version: str, onnxruntime: str) -> None:
        """What this process is made of."""
        self._build.labels(version, platform.python_version(), grpc.__version__, onnxruntime).set(1)

    def model_loaded(
        self, *, name: str, version: str, digest: str, provider: str, load_s: float, warmup_s: float
    ) -> None:
        """From here on all series carry this model's name."""
        self._model = name
        self._model_info.labels(name, version, digest, provider).set(1)
        self._model_load.labels(name, version).set(load_s)
        self._model_warmup.labels(name, version).set(warmup_s)
        self._model_ready.labels(name, version).set(0)
        self._create_model_series()

    def model_ready(self, name: str, version: str, *, ready: bool) -> None:
        """The model takes requests, or no longer does."""
        self._model_ready.labels(name, version).set(ready)

    def queue_limits(self, *, items: int, size_bytes: int) -> None:
        """The limits beside the gauges, so that an alert can use their ratio."""
        for op in sets.OPS:
            self._queue_limit_items.labels(self._model, op).set(items)
            self._queue_limit_bytes.labels(self._model, op).set(size_bytes)

    # Declarations ----------------------------------------------------------------------------------------

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def _declare_rpcs(self) -> None:
        rpc = ("grpc_type", "grpc_service", "grpc_method")
        self._started = self._counter("grpc_server_started_total", "RPCs started on the server.", rpc)
        self._handled = self._counter(
            "grpc_server_handled_total", "RPCs completed, whatever the outcome.", (*rpc, "grpc_code")
        )
        self._received = self._counter("grpc_server_msg_received_total", "Messages received.", rpc)
        self._sent = self._counter("grpc_server_msg_sent_total", "Messages sent.", rpc)
        self._handling = self._histogram(
            "grpc_server_handling_seconds", "Time from arrival to the end of an RPC.", rpc, sets.LATENCY_S
        )
        self._in_flight = self._gauge("tessera_in_flight_requests", "RPCs in work.", ("method",))
        self._rejected = self._counter(
            "tessera_rejected_requests_total", "RPCs shed by admission control.", ("method", "reason")
        )
        self._invalid = self._counter(
            "tessera_invalid_requests_total", "RPCs refused for their content.", ("method", "reason")
        )
        self._abandoned = self._counter(
            "tessera_abandoned_requests_total",
            "RPCs whose client left or whose deadline passed, by where that found them.",
            ("method", "cause", "stage"),
        )

    def _declare_work(self) -> None:
        work = ("model", "op")
        self._queue_items = self._gauge("tessera_queue_items", "Pictures waiting for the model.", work)
        self._queue_bytes = self._gauge("tessera_queue_bytes", "Memory of the pictures in work.", work)
        self._queue_limit_items = self._gauge("tessera_queue_limit_items", "Limit of the queue.", work)
        self._queue_limit_bytes = self._gauge(
            "tessera_queue_limit_bytes", "Limit of the memory, which both operations share.", work
        )
        self._queue_wait = self._histogram(
            "tessera_queue_wait_seconds", "Time a picture waits for its model call.", work, sets.STAGE_S
        )
        self._stage = self._histogram(
            "tessera_stage_duration_seconds", "Time of one stage.", (*work, "stage"), sets.STAGE_S
        )
        self._batch_size = self._histogram("tessera_batch_size", "Pictures per model call.", work, sets.BATCH)
        self._batches = self._counter("tessera_batches_total", "Model calls.", (*work, "trigger"))
        self._wasted = self._counter(
            "tessera_wasted_compute_seconds_total", "Model time whose result nobody read.", work
        )
        self._images = self._counter("tessera_images_total", "Pictures in or out.", ("op", "format"))
        self._image_area = self._histogram("tessera_image_pixels", "Pixels.", ("op",), sets.AREA_PX)
        self._image_size = self._histogram("tessera_image_size_bytes", "File size.", ("op",), sets.SIZE_BYTES)
        self._tokens = self._counter("tessera_tokens_total", "Tokens sent or read.", work)
        self._tokens_per_image = self._histogram(
            "tessera_tokens_per_image", "Tokens of one picture.", work, sets.TOKENS
        )
        self._loop_lag = Histogram(
            "tessera_event_loop_lag_seconds",
            "How late a timer of the event loop fires.",
            buckets=sets.STAGE_S,
            registry=self.registry,
        )

    def _declare_streams(self) -> None:
        model = ("model",)
        self._codestream_size = self._histogram(
            "tessera_codestream_size_bytes", "Size of streams made.", model, sets.SIZE_BYTES
        )
        self._codestream_bpp = self._histogram(
            "tessera_codestream_bits_per_pixel", "Rate of streams made.", model, sets.BITS_PER_PIXEL
        )
        self._rate_targets = self._counter(
            "tessera_rate_targets_total", "Targets asked for.", ("model", "kind", "result")
        )
        self._decode_truncated = self._counter(
            "tessera_decode_truncated_total", "Decodes of a stream known to be cut.", model
        )
        self._truncate_saved = self._counter(
            "tessera_truncate_bytes_saved_total", "Bytes cut off by Truncate.", model
        )
        self._first_chunk = self._histogram(
            "tessera_time_to_first_chunk_seconds",
            "From the request to the first chunk.",
            ("method",),
            sets.LATENCY_S,
        )
        self._chunk_interval = self._histogram(
            "tessera_chunk_interval_seconds",
            "Between two chunks, the client's back-pressure included.",
            ("method",),
            sets.STAGE_S,
        )
        self._chunks = self._counter("tessera_stream_chunks_total", "Chunks sent.", ("method",))

    def _declare_model(self) -> None:
        which = ("model", "version")
        self._model_info = self._gauge("tessera_model_info", "Always 1.", (*which, "digest", "provider"))
        self._model_ready = self._gauge("tessera_model_ready", "1 while the model takes requests.", which)
        self._model_load = self._gauge("tessera_model_load_seconds", "Time to load the model.", which)
        self._model_warmup = self._gauge("tessera_model_warmup_seconds", "Time to warm it up.", which)
        self._build = self._gauge(
            "tessera_build_info", "Always 1.", ("version", "python", "grpcio", "onnxruntime")
        )

    # Series that exist before anything happened, so that `rate()` and alerts work from zero ----------------

    def _create_rpc_series(self, rpcs: Iterable[Rpc]) -> None:
        for rpc in rpcs:
            for metric in (self._started, self._received, self._sent, self._handling):
                metric.labels(*rpc)
            for code in grpc.StatusCode:
                self._handled.labels(*rpc, sets.code_name(code))

    def _create_method_series(self) -> None:
        for method in sets.WORK_METHODS:
            self._in_flight.labels(method)
            _create(self._rejected, ((method, reason) for reason in sets.REJECTIONS))
            _create(self._invalid, ((method, reason) for reason in INVALID_REASONS))
            causes = ("client_cancel", "deadline")
            _create(self._abandoned, ((method, cause, place) for cause in causes for place in sets.PLACES))
        for method in sets.STREAM_METHODS:
            for metric in (self._first_chunk, self._chunk_interval, self._chunks):
                metric.labels(method)
        _create(self._images, (("encode", name) for name in ("png", "jpeg", "webp", "tensor")))
        _create(self._images, (("decode", name) for name in ("png", "jpeg", "webp", "raw")))
        for op in sets.OPS:
            self._image_area.labels(op)
            self._image_size.labels(op)

    def _create_model_series(self) -> None:
        model = self._model
        for op in sets.OPS:
            for metric in (self._queue_wait, self._batch_size, self._wasted, self._tokens_per_image):
                metric.labels(model, op)
            for gauge in (self._queue_items, self._queue_bytes):
                gauge.labels(model, op)
            _create(self._stage, ((model, op, stage) for stage in sets.STAGES[op]))
            _create(self._batches, ((model, op, trigger) for trigger in ("full", "idle", "retry")))
        _create(self._tokens, ((model, op) for op in (*sets.OPS, "truncate")))
        for metric in (self._codestream_size, self._codestream_bpp):
            metric.labels(model)
        self._decode_truncated.labels(model)
        self._truncate_saved.labels(model)
        for kind in ("all", "tokens", "bytes", "quality"):
            for result in ("met", "best_effort", "unreachable"):
                self._rate_targets.labels(model, kind, result)


def _create(metric: Any, series: Iterable[tuple[str, ...]]) -> None:
    for labels in series:
        metric.labels(*labels)
