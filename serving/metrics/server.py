"""Every metric that no single model owns, with closed label sets and all series there from the start.

`grpc_server_*` follow go-grpc-middleware, so that public dashboards work; the rest begins with `tessera_`.
Callers say what happened, in words of their own. What a model counts is in `model`; `of_model` hands it out.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable

import grpc
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from serving.metrics import sets
from serving.metrics.declare import Declare, create_series
from serving.metrics.log_lines import LostLogLines
from serving.metrics.model import ModelMetrics, ModelSeries
from serving.metrics.providers import ProviderMetrics
from serving.status import INVALID_REASONS

# A `_created` gauge beside every counter and histogram would double the scrape, and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]

Rpc = tuple[str, str, str]
"""grpc_type, grpc_service, grpc_method."""


class Metrics:
    """All series of one server. `rpcs` are the methods that it serves."""

    def __init__(self, rpcs: Iterable[Rpc]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(LostLogLines())
        declare = Declare(self.registry)
        self.providers = ProviderMetrics(declare)
        self._declare_rpcs(declare)
        self._declare_work(declare)
        self._declare_chunks(declare)
        self._models = ModelSeries(declare)
        self._unknown_model = self._models.of_unknown()
        self._create_rpc_series((*rpcs, sets.UNKNOWN_RPC))
        self._create_method_series()

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and body of /metrics, in a form that is accepted; only OpenMetrics has exemplars."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)

    def serve_also(self, rpcs: Iterable[Rpc]) -> None:
        """Further RPCs, of another port of the same server."""
        self._create_rpc_series(rpcs)

    def of_model(self, name: str) -> ModelMetrics:
        """What a new generation of this model counts with, until its `retire`."""
        return self._models.of(name)

    @property
    def of_unknown_model(self) -> ModelMetrics:
        """What is counted of streams whose model is not served here."""
        return self._unknown_model

    # RPCs ------------------------------------------------------------------------------------------------

    def rpc_started(self, rpc: Rpc) -> None:
        """An RPC reached the server."""
        self._started.labels(*rpc).inc()

    def rpc_handled(self, rpc: Rpc, code: grpc.StatusCode, seconds: float, trace_id: str = "") -> None:
        """An RPC ended, in any way; with a trace, it becomes the example of its bucket."""
        self._handled.labels(*rpc, sets.code_name(code)).inc()
        self._handling.labels(*rpc).observe(seconds, {"trace_id": trace_id} if trace_id else None)

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

    # Work ------------------------------------------------------------------------------------------------

    def image(self, op: str, format: str, area_px: int, size_bytes: int) -> None:
        """A picture came in (encode) or went out (decode)."""
        self._images.labels(op, format).inc()
        self._image_area.labels(op).observe(area_px)
        self._image_size.labels(op).observe(size_bytes)

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

    def build(self, *, version: str, onnxruntime: str) -> None:
        """What this process is made of."""
        self._build.labels(version, platform.python_version(), grpc.__version__, onnxruntime).set(1)

    # Declarations ----------------------------------------------------------------------------------------

    def _declare_rpcs(self, declare: Declare) -> None:
        rpc = ("grpc_type", "grpc_service", "grpc_method")
        self._started = declare.counter("grpc_server_started_total", "RPCs started on the server.", rpc)
        self._handled = declare.counter(
            "grpc_server_handled_total", "RPCs completed, whatever the outcome.", (*rpc, "grpc_code")
        )
        self._received = declare.counter("grpc_server_msg_received_total", "Messages received.", rpc)
        self._sent = declare.counter("grpc_server_msg_sent_total", "Messages sent.", rpc)
        self._handling = declare.histogram(
            "grpc_server_handling_seconds", "Time from arrival to the end of an RPC.", rpc, sets.LATENCY_S
        )
        self._in_flight = declare.gauge("tessera_in_flight_requests", "RPCs in work.", ("method",))
        self._rejected = declare.counter(
            "tessera_rejected_requests_total", "RPCs shed by admission control.", ("method", "reason")
        )
        self._invalid = declare.counter(
            "tessera_invalid_requests_total", "RPCs refused for their content.", ("method", "reason")
        )
        self._abandoned = declare.counter(
            "tessera_abandoned_requests_total",
            "RPCs whose client left or whose deadline passed, by where that found them.",
            ("method", "cause", "stage"),
        )

    def _declare_work(self, declare: Declare) -> None:
        self._images = declare.counter("tessera_images_total", "Pictures in or out.", ("op", "format"))
        self._image_area = declare.histogram("tessera_image_pixels", "Pixels.", ("op",), sets.AREA_PX)
        self._image_size = declare.histogram(
            "tessera_image_size_bytes", "File size.", ("op",), sets.SIZE_BYTES
        )
        self._loop_lag = declare.histogram(
            "tessera_event_loop_lag_seconds", "How late a timer of the event loop fires.", (), sets.STAGE_S
        )
        self._build = declare.gauge(
            "tessera_build_info", "Always 1.", ("version", "python", "grpcio", "onnxruntime")
        )

    def _declare_chunks(self, declare: Declare) -> None:
        method = ("method",)
        self._first_chunk = declare.histogram(
            "tessera_time_to_first_chunk_seconds",
            "From the request to the first chunk.",
            method,
            sets.LATENCY_S,
        )
        self._chunk_interval = declare.histogram(
            "tessera_chunk_interval_seconds",
            "Between two chunks, the client's back-pressure included.",
            method,
            sets.STAGE_S,
        )
        self._chunks = declare.counter("tessera_stream_chunks_total", "Chunks sent.", method)

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
            create_series(self._rejected, ((method, reason) for reason in sets.REJECTIONS))
            create_series(self._invalid, ((method, reason) for reason in INVALID_REASONS))
            causes = ("client_cancel", "deadline")
            create_series(
                self._abandoned, ((method, cause, place) for cause in causes for place in sets.PLACES)
            )
        for method in sets.STREAM_METHODS:
            for metric in (self._first_chunk, self._chunk_interval, self._chunks):
                metric.labels(method)
        create_series(self._images, (("encode", name) for name in ("png", "jpeg", "webp", "tensor")))
        create_series(self._images, (("decode", name) for name in ("png", "jpeg", "webp", "raw")))
        for op in sets.OPS:
            self._image_area.labels(op)
            self._image_size.labels(op)
