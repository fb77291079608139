"""Spans of a server process arrive at a collector, over either protocol of OTLP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from running_server import as_file
from server_process import encode, server_process

otlp = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="needs the extra `otel`"
)
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
Requests = list[bytes]


@contextmanager
def http_collector() -> Iterator[tuple[str, Requests]]:
    received: Requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            received.append(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


@contextmanager
def grpc_collector() -> Iterator[tuple[str, Requests]]:
    received: Requests = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            assert details.method == EXPORT
            return grpc.unary_unary_rpc_method_handler(lambda raw, _context: received.append(raw) or b"")

    server = grpc.server(ThreadPoolExecutor(1), handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", received
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("protocol", "collector"), [("http/protobuf", http_collector), ("grpc", grpc_collector)]
)
def test_spans_reach_the_collector_before_the_process_ends(
    tmp_path, photo, protocol: str, collector: Callable
):
    with collector() as (endpoint, received):
        settings = {
            "TESSERA_TRACING": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            # Longer than the test: only the end of the process can send them.
            "OTEL_BSP_SCHEDULE_DELAY": "60000",
        }
        with server_process(tmp_path, **settings) as (target, stop):
            encode(target, as_file(photo, "PNG"))
            lines = stop()
    exports = [otlp.ExportTraceServiceRequest.FromString(raw) for raw in received]
    spans = [span.name for e in exports for r in e.resource_spans for s in r.scope_spans for span in s.spans]
    stages = ["parse", "parse", "image_decode", "queue", "inference"]
    assert spans == [*stages, "tessera.v1.TokenizerService/Encode"]
    # The exporter neither logs errors nor disturbs the event loop of gRPC.
    assert [line["event"] for line in lines] == ["starting", "serving", "handled", "draining", "stopped"]
