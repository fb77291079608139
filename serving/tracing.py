"""OpenTelemetry: a span per RPC with a child per stage. Knows no handler; the only file that imports OTel.

Own code instead of opentelemetry-instrumentation-grpc, whose spans of aborted and of cancelled calls keep
the status UNSET and which knows nothing of our stages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import grpc
import structlog
from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from serving.metrics.server import Rpc
from serving.status import Failure
from serving.trace import Fact

# Semantic conventions for gRPC servers: other codes are the client's doing and leave the status unset.
_ERRORS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
# Probes would be most of the spans.
_UNTRACED_PACKAGE = "grpc."
_NS_PER_S = 1_000_000_000


class Tracing:
    """Starts the span of each RPC, below the caller's if the metadata name one."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = provider.get_tracer("tessera")

    def __call__(self, rpc: Rpc, request_id: str, metadata: Mapping[str, str]) -> _RpcSpan | None:
        """Begin the span of this RPC."""
        _kind, service, method = rpc
        if service.startswith(_UNTRACED_PACKAGE):
            return None
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "tessera.request_id": request_id,
        }
        span = self._tracer.start_span(
            f"{service}/{method}", propagate.extract(metadata), SpanKind.SERVER, attributes
        )
        ids = span.get_span_context()
        if ids.is_valid:
            structlog.contextvars.bind_contextvars(
                trace_id=trace.format_trace_id(ids.trace_id), span_id=trace.format_span_id(ids.span_id)
            )
        return _RpcSpan(self._tracer, span) if span.is_recording() else None


class _RpcSpan:
    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context = trace.set_span_in_context(span)
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    def stage(self, stage: str, seconds: float, **facts: Fact) -> None:
        """A child span that ends now."""
        end_ns = time.time_ns()
        start_ns = end_ns - int(seconds * _NS_PER_S)
        child = self._tracer.start_span(
            stage, self._context, attributes=_attributes(facts), start_time=start_ns
        )
        child.end(end_ns)

    def note(self, **facts: Fact) -> None:
        """Attributes of the span of the RPC."""
        self._span.set_attributes(_attributes(facts))

    def ended(self, code: grpc.StatusCode, _seconds: float, failure: Failure | None) -> None:
        """End the span with the code that the client sees, or would see."""
        self._span.set_attribute("rpc.grpc.status_code", code.value[0])
        if failure is not None:
            self._span.set_attribute("tessera.reason", failure.reason)
        if code in _ERRORS:
            self._span.set_attribute("error.type", code.name)
            self._span.set_status(StatusCode.ERROR, failure.reason if failure else code.name)
        self._span.end()


def _attributes(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    return {f"tessera.{name}": value for name, value in facts.items()}


def otlp_provider(version: str) -> TracerProvider:
    """Spans to a collector; raises ValueError for a variable that cannot be read.

    Sampler, batches, limits, endpoint and headers are those of the standard OTEL_* variables.
    """
    ours = Resource.create({"service.name": "tessera", "service.version": version})
    # Ends with the server, not at exit: that would wait for a collector that does not answer.
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    return provider


def _exporter() -> SpanExporter:
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
    )
    if protocol not in ("grpc", "http/protobuf"):
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL must be grpc or http/protobuf, got {protocol!r}")
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    return HttpExporter()
