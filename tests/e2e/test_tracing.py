"""Spans of real RPCs: parent, status, stages; and that tracing cannot hold up the server."""

from __future__ import annotations

import subprocess
import sys
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving import observers
from serving.config import ServingConfig
from serving.observers import Observers, TracingUnavailable, rpc_observers
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs the extra `otel`")
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
TRACEPARENT = ("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01")


@pytest.fixture
def spans(monkeypatch) -> InMemorySpanExporter:
    """Where the spans of servers that trace arrive."""
    exporter = InMemorySpanExporter()

    def provider(_version: str) -> sdk.TracerProvider:
        made = sdk.TracerProvider(shutdown_on_exit=False)
        made.add_span_processor(SimpleSpanProcessor(exporter))
        return made

    monkeypatch.setattr("serving.tracing.otlp_provider", provider)
    return exporter


@pytest.fixture
def traced(spans, start_server):
    return start_server(tracing="otlp")


@pytest.fixture
def stub(traced):
    with traced.channel() as channel:
        yield tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)


def encode_request(png: bytes) -> pb.EncodeRequest:
    return pb.EncodeRequest(image=types.Image(encoded=png), rate=types.RateTarget(max_token_count=64))


def rpc_span(running, spans):
    """The one span of an RPC, once it has ended."""

    def ended():
        return [span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]

    running.eventually(lambda: bool(ended()))
    (span,) = ended()
    return span


def test_a_span_continues_the_trace_of_the_caller_and_names_the_rpc(traced, spans, stub, png):
    stub.Encode(encode_request(png), metadata=(TRACEPARENT, ("x-request-id", "my-id")))
    span = rpc_span(traced, spans)
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    assert span.name == "tessera.v1.TokenizerService/Encode"
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "tessera.v1.TokenizerService",
        "rpc.method": "Encode",
        "rpc.grpc.status_code": 0,
        "tessera.request_id": "my-id",
        "tessera.model": "fake",
        "tessera.token_count": 64,
    }


def test_the_time_of_a_traced_rpc_has_its_trace_as_exemplar(traced, spans, stub, png):
    stub.Encode(encode_request(png), metadata=(TRACEPARENT,))
    rpc_span(traced, spans)
    page = traced.http("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    (line,) = (line for line in page.splitlines() if TRACE_ID in line)
    assert line.startswith("grpc_server_handling_seconds_bucket{") and 'grpc_method="Encode"' in line
    assert f'# {{trace_id="{TRACE_ID}"}} ' in line
    assert TRACE_ID not in traced.http("/metrics")


def test_each_stage_is_a_child_within_the_time_of_its_rpc(traced, spans, stub, png):
    reply = stub.Encode(encode_request(png))
    stub.Decode(pb.DecodeRequest(codestream=reply.codestream.data))
    traced.eventually(lambda: len(spans.get_finished_spans()) == 12)
    done = spans.get_finished_spans()
    for method, stages in (
        # Parsed twice: the message, and once its model is found, what it asks of that.
        ("Encode", ["image_decode", "inference", "parse", "parse", "queue"]),
        ("Decode", ["image_encode", "inference", "parse", "parse", "queue"]),
    ):
        (rpc,) = (span for span in done if span.name.endswith(f"/{method}"))
        children = [span for span in done if span.parent and span.parent.span_id == rpc.context.span_id]
        assert sorted(child.name for child in children) == stages
        for child in children:
            # Lengths come from a clock with other ticks than the one that dates spans.
            assert rpc.start_time - 1_000_000 <= child.start_time <= child.end_time <= rpc.end_time
    assert {span.attributes["tessera.batch_size"] for span in done if span.name == "inference"} == {1}


def test_chunks_of_a_stream_are_spans_of_writing(traced, spans, stub, png):
    request = pb.EncodeStreamRequest(image=types.Image(encoded=png))
    messages = list(stub.EncodeStream(request))
    rpc_span(traced, spans)
    writes = [span for span in spans.get_finished_spans() if span.name == "write"]
    assert len(writes) == len(messages)


def test_an_abort_keeps_its_code_and_reason(traced, spans, stub):
    with pytest.raises(grpc.RpcError):
        stub.Encode(encode_request(b"no picture"))
    span = rpc_span(traced, spans)
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert span.attributes["tessera.reason"] == "IMAGE_FORMAT_UNSUPPORTED"
    # By the conventions, an error of the caller is none of the server.
    assert span.status.status_code is StatusCode.UNSET


def test_a_bug_is_an_error_without_its_text(traced, spans, stub, png, photo):
    traced.tokenizer.poison = int(photo[0, 0, 0])
    with pytest.raises(grpc.RpcError):
        stub.Encode(encode_request(png))
    span = rpc_span(traced, spans)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "INTERNAL")
    assert span.events == ()


def test_a_cancelled_and_a_late_call_end_their_spans(traced, spans, stub, png):
    traced.tokenizer.gate.clear()
    call = stub.Encode.future(encode_request(png))
    traced.eventually(lambda: traced.sample("tessera_in_flight_requests") == 1)
    call.cancel()
    span = rpc_span(traced, spans)
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.CANCELLED.value[0]
    assert span.status.status_code is StatusCode.UNSET
    spans.clear()
    with pytest.raises(grpc.RpcError):
        stub.Encode(encode_request(png), timeout=0.2)
    span = rpc_span(traced, spans)
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert span.status.status_code is StatusCode.ERROR


def test_probes_are_not_traced_and_unknown_methods_share_one_name(traced, spans):
    with traced.channel() as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/their.Service/TheirMethod")(b"")
    assert rpc_span(traced, spans).name == "unknown/unknown"


def test_a_caller_that_does_not_sample_gets_no_span(traced, spans, stub, png):
    stub.Encode(encode_request(png), metadata=(("traceparent", TRACEPARENT[1][:-2] + "00"),))
    traced.expect(0, "tessera_in_flight_requests")
    assert spans.get_finished_spans() == ()


def test_a_broken_traceparent_begins_a_new_trace(traced, spans, stub, png):
    stub.Encode(encode_request(png), metadata=(("traceparent", "00-zz-zz-zz\x7f"[:11]),))
    assert rpc_span(traced, spans).parent is None


def test_without_tracing_nothing_of_it_is_imported():
    code = (
        "import sys; from serving.config import ServingConfig; from serving.observers import rpc_observers;"
        "import serving.server; rpc_observers(ServingConfig(), '1');"
        "raise SystemExit('opentelemetry' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_collector_that_hangs_does_not_hold_up_the_stop(monkeypatch):
    monkeypatch.setattr(observers, "_FLUSH_TIMEOUT_S", 0.05)
    never = threading.Event()
    Observers((), flush=lambda: never.wait(60) and None).stop()
    never.set()


def test_an_unknown_protocol_is_refused_at_start(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke")
    with pytest.raises(TracingUnavailable, match="OTEL_"):
        rpc_observers(ServingConfig(tracing="otlp"), "1")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "serving.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(TracingUnavailable, match=r"tessera\[otel\]"):
        rpc_observers(ServingConfig(tracing="otlp"), "1")


def test_the_standard_variables_name_the_service_and_the_sampler(monkeypatch):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra `otel`")
    from serving.tracing import otlp_provider

    monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    provider = otlp_provider("1.2.3")
    attributes = provider.resource.attributes
    assert attributes["service.name"] == "pictures"
    assert attributes["service.version"] == "1.2.3"
    assert attributes["deployment.environment.name"] == "test"
    assert not provider.get_tracer("x").start_span("y").is_recording()
    provider.shutdown()


def test_a_bulk_stream_is_one_span_that_counts_its_items(traced, spans, stub, png):
    items = [encode_request(png), encode_request(b"no picture"), encode_request(png)]
    requests = (pb.EncodeManyRequest(item_id=at, request=item) for at, item in enumerate(items))
    assert len(list(stub.EncodeMany(requests))) == 3
    span = rpc_span(traced, spans)
    counts = span.attributes["tessera.item_count"], span.attributes["tessera.failed_item_count"]
    assert counts == (3, 1)
    assert len(spans.get_finished_spans()) == 1
