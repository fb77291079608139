"""What a server process writes to stderr, and which request id and trace id it shows."""

from __future__ import annotations

import pytest
from running_server import as_file
from server_process import encode, server_process

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
HOSTILE_IDS = ("a" * 65, "two words", 'quote"and{brace}', "semi;colon")
FORGED = b"FORGED-BY-CLIENT" * 20


def test_each_rpc_gets_one_line_with_its_id_its_code_and_its_stages(tmp_path, photo):
    png = as_file(photo, "PNG")
    with server_process(tmp_path) as (target, stop):
        ids = [encode(target, png, ("x-request-id", "my-id:1")), encode(target, b"no picture")]
        replaced = [encode(target, png, ("x-request-id", hostile)) for hostile in HOSTILE_IDS]
        encode(target, FORGED, model=FORGED.decode())
        lines = stop()
    handled = [line for line in lines if line["event"] == "handled" and line["method"] == "Encode"]
    assert [line["request_id"] for line in handled[:2]] == ids
    assert ids[0] == "my-id:1"
    assert {line["request_id"] for line in handled[2:6]} == set(replaced)
    assert not set(HOSTILE_IDS) & set(replaced)
    good, bad = handled[:2]
    assert good["code"] == "OK" and good["level"] == "info" and good["token_count"] == 1560
    assert {"parse_s", "image_decode_s", "queue_s", "inference_s", "duration_s"} <= good.keys()
    assert (bad["code"], bad["reason"]) == ("INVALID_ARGUMENT", "IMAGE_FORMAT_UNSUPPORTED")
    assert len(handled) == 7
    assert "FORGED" not in str(lines)


def test_sampling_and_tracing_show_in_the_log(tmp_path, photo):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra `otel`")
    png = as_file(photo, "PNG")
    # Nobody listens there: spans are lost, and neither requests nor the end of the process wait for them.
    settings = {
        "TESSERA_TRACING": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "TESSERA_ACCESS_LOG_SAMPLE": "0",
    }
    with server_process(tmp_path, **settings) as (target, stop):
        encode(target, png)
        encode(target, b"no picture", ("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01"))
        lines = [line for line in stop() if line["event"] == "handled"]
    (line,) = lines
    assert line["code"] == "INVALID_ARGUMENT"
    assert line["trace_id"] == TRACE_ID
    assert len(line["span_id"]) == 16
