"""Metrics conformance: every RPC, whatever its end, is started once and handled once with the right code."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_server import Running

from tessera.v1 import model_service_pb2 as model_pb
from tessera.v1 import model_service_pb2_grpc, tokenizer_service_pb2_grpc
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types
from tokenizer.coding import Coding

RATE = types.RateTarget(max_token_count=64)


def ask(method: str, png: bytes, stream: bytes):
    """A valid request of each RPC."""
    image = types.Image(encoded=png)
    decode = pb.DecodeRequest(codestream=stream)
    return {
        "Encode": pb.EncodeRequest(image=image, rate=RATE),
        "EncodeStream": pb.EncodeStreamRequest(image=image, rate=RATE),
        "Decode": decode,
        "DecodeStream": pb.DecodeStreamRequest(request=decode, preview_token_counts=[4]),
        "Truncate": pb.TruncateRequest(codestream=stream, rate=RATE),
    }[method]


METHODS = ("Encode", "EncodeStream", "Decode", "DecodeStream", "Truncate")
MODEL_METHODS = METHODS[:4]


@dataclass(frozen=True)
class Call:
    """A begun call of either kind."""

    rpc: Any
    streams: bool


class Counts:
    """What one RPC added to the standard counters."""

    def __init__(self, running: Running, method: str) -> None:
        self._running, self._method = running, method
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        found = {}
        for (name, labels), value in self._running.samples().items():
            pairs = dict(labels)
            if pairs.get("grpc_method") == self._method and not name.endswith(
                ("_bucket", "_sum", "_created")
            ):
                found[f"{name}:{pairs.get('grpc_code', '')}"] = value
        return found

    def added(self) -> dict[str, float]:
        now = self._now()
        return {key: now[key] - self._before[key] for key in now if now[key] != self._before[key]}

    def check(self, code: str) -> None:
        """Exactly one started, one handled with this code, one observation of its duration."""
        self._running.eventually(lambda: f"grpc_server_handled_total:{code}" in self.added())
        added = {key: value for key, value in self.added().items() if "_msg_" not in key}
        assert added == {
            "grpc_server_started_total:": 1,
            f"grpc_server_handled_total:{code}": 1,
            "grpc_server_handling_seconds_count:": 1,
        }


@pytest.fixture
def stream(client, png) -> bytes:
    return client.encode(png).to_bytes()


@pytest.fixture
def stub(running):
    with running.channel() as channel:
        yield tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)


def finish(call: Call) -> grpc.StatusCode:
    """Read a call to its end; its code."""
    with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
        if call.streams:
            list(call.rpc)
        else:
            call.rpc.result()
    return call.rpc.code()


def start(stub, method: str, request, timeout: float = 10) -> Call:
    """Begin a call of either kind."""
    rpc, streams = getattr(stub, method), method.endswith("Stream")
    return Call(rpc(request, timeout=timeout) if streams else rpc.future(request, timeout=timeout), streams)


@pytest.mark.parametrize("method", METHODS)
def test_success_counts_as_ok(running, stub, png, stream, method):
    counts = Counts(running, method)
    assert finish(start(stub, method, ask(method, png, stream))) is grpc.StatusCode.OK
    counts.check("OK")


@pytest.mark.parametrize("method", METHODS)
def test_a_bad_request_counts_as_invalid_argument_with_its_reason(running, stub, method):
    counts = Counts(running, method)
    assert finish(start(stub, method, ask(method, b"", b""))) is grpc.StatusCode.INVALID_ARGUMENT
    counts.check("InvalidArgument")
    running.expect(1, "tessera_invalid_requests_total", method=method)


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message_count_as_invalid_argument(running, method):
    counts = Counts(running, method)
    path = f"/tessera.v1.TokenizerService/{method}"
    with running.channel() as channel:
        raw_stub = SimpleNamespace(
            **{method: (channel.unary_stream if method.endswith("Stream") else channel.unary_unary)(path)}
        )
        assert finish(start(raw_stub, method, b"\xff\xff")) is grpc.StatusCode.INVALID_ARGUMENT
    counts.check("InvalidArgument")


@pytest.mark.parametrize("method", MODEL_METHODS)
def test_a_cancelled_call_counts_as_canceled(running, stub, png, stream, method):
    running.tokenizer.gate.clear()
    counts = Counts(running, method)
    call = start(stub, method, ask(method, png, stream))
    running.eventually(lambda: running.sample("tessera_in_flight_requests", method=method) == 1)
    call.rpc.cancel()
    counts.check("Canceled")


@pytest.mark.parametrize("method", MODEL_METHODS)
def test_a_deadline_that_passes_counts_as_deadline_exceeded(running, stub, png, stream, method):
    running.tokenizer.gate.clear()
    counts = Counts(running, method)
    call = start(stub, method, ask(method, png, stream), timeout=0.3)
    assert finish(call) is grpc.StatusCode.DEADLINE_EXCEEDED
    counts.check("DeadlineExceeded")


@pytest.mark.parametrize("method", METHODS)
def test_a_refused_call_while_draining_counts_as_unavailable(running, stub, png, stream, method):
    running.call(running.server.drain())
    counts = Counts(running, method)
    assert finish(start(stub, method, ask(method, png, stream))) is grpc.StatusCode.UNAVAILABLE
    counts.check("Unavailable")
    running.expect(1, "tessera_rejected_requests_total", method=method, reason="draining")


@pytest.mark.parametrize("method", MODEL_METHODS)
def test_a_shed_call_counts_as_resource_exhausted(start_server, png, method):
    running = start_server(max_concurrent_rpcs=1)
    with running.channel() as channel, running.client() as client:
        stream = client.encode(png).to_bytes()
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        running.tokenizer.gate.clear()
        held = start(stub, "Encode", ask("Encode", png, stream))
        running.eventually(lambda: running.sample("tessera_in_flight_requests") == 1)
        counts = Counts(running, method)
        assert finish(start(stub, method, ask(method, png, stream))) is grpc.StatusCode.RESOURCE_EXHAUSTED
        # The held call is started already and handled later; only the one that was shed counts here.
        counts.check("ResourceExhausted")
        running.tokenizer.gate.set()
        assert finish(held) is grpc.StatusCode.OK


@pytest.mark.parametrize("method", ("Encode", "EncodeStream"))
def test_a_bug_counts_as_internal(running, stub, png, photo, stream, method):
    running.tokenizer.poison = int(photo[0, 0, 0])
    counts = Counts(running, method)
    assert finish(start(stub, method, ask(method, png, stream))) is grpc.StatusCode.INTERNAL
    counts.check("Internal")


@pytest.mark.parametrize(("method", "sent"), [("Encode", 1), ("EncodeStream", 5), ("DecodeStream", 2)])
def test_messages_are_counted_in_both_directions(running, stub, png, stream, method, sent):
    counts = Counts(running, method)
    finish(start(stub, method, ask(method, png, stream)))
    counts.check("OK")
    added = counts.added()
    assert added["grpc_server_msg_received_total:"] == 1
    # A stream of 64 tokens: header, chunks up to 16, 32 and 64, trailer.
    assert added["grpc_server_msg_sent_total:"] == sent


def test_a_reader_that_leaves_mid_stream_counts_as_canceled(running, stub, stream):
    counts = Counts(running, "DecodeStream")
    # As raw pixels, the previews are larger than the flow-control window: the server cannot run ahead.
    decode = pb.DecodeRequest(codestream=stream, output=types.OutputFormat(format=types.IMAGE_FORMAT_RAW))
    request = pb.DecodeStreamRequest(request=decode, preview_token_counts=range(1, 16))
    call = start(stub, "DecodeStream", request)
    next(call.rpc)
    call.rpc.cancel()
    counts.check("Canceled")
    running.expect(1, "tessera_abandoned_requests_total", method="DecodeStream")
    running.expect(0, "tessera_in_flight_requests")


def test_unknown_methods_share_one_series(running):
    before = len(running.samples())
    with running.channel() as channel:
        for number in range(50):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/nobody.v{number}/Method{number}")(b"", timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    running.expect(50, "grpc_server_handled_total", grpc_method="unknown", grpc_code="Unimplemented")
    assert len(running.samples()) == before


def test_work_creates_no_series_that_were_not_there_from_the_start(running, stub, png, stream):
    before = set(running.samples())
    for method in METHODS:
        finish(start(stub, method, ask(method, png, stream)))
        finish(start(stub, method, ask(method, b"bad", b"bad")))
    assert set(running.samples()) == before


def test_truncating_a_stream_of_another_model_counts_for_no_model(running, client, png):
    stream = client.encode(png)
    client.truncate(replace(stream, fingerprint="99999999").to_bytes(), max_tokens=10)
    running.expect(10, "tessera_tokens_total", model="unknown", op="truncate")
    running.expect(0, "tessera_tokens_total", model="fake", op="truncate")


def test_health_and_reflection_are_counted_but_never_shed(running):
    counts = Counts(running, "Check")
    with running.channel() as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    counts.check("OK")


def test_the_probes_follow_the_state(start_server):
    running = start_server(load=False)
    with pytest.raises(Exception, match="503"):
        running.http("/readyz")
    running.call(running.server.load())
    assert running.http("/readyz") == running.http("/livez") == "ok\n"
    running.call(running.server.drain())
    with pytest.raises(Exception, match="503"):
        running.http("/readyz")
    assert running.http("/livez") == "ok\n"
    running.expect(0, "tessera_model_ready")


def test_one_picture_leaves_its_mark_in_every_metric_of_work(running, client, png):
    client.decode(client.encode(png, coding=Coding.FIXED).prefix(24))
    client.truncate(client.encode(png).to_bytes(), max_bytes=100)
    for op in ("encode", "decode"):
        assert running.sample("tessera_batch_size_count", op=op, model="fake") >= 1
        assert running.sample("tessera_queue_wait_seconds_count", op=op) >= 1
        assert running.sample("tessera_image_pixels_count", op=op) >= 1
        assert running.sample("tessera_stage_duration_seconds_count", op=op, stage="inference") >= 1
    running.expect(24, "tessera_tokens_total", op="decode")
    running.expect(90, "tessera_tokens_total", op="truncate")
    running.expect(1, "tessera_decode_truncated_total")
    running.expect(1560 - 90, "tessera_truncate_bytes_saved_total")
    running.expect(1, "tessera_model_info", model="fake", version="1", provider="cpu")
    running.expect(2, "tessera_rate_targets_total", kind="all", result="met")
    running.eventually(lambda: running.sample("tessera_event_loop_lag_seconds_count") > 0)


@pytest.mark.parametrize("method", ("Decode", "DecodeStream"))
def test_a_bug_in_decoding_counts_as_internal(running, stub, png, stream, method, monkeypatch):
    def broken(*_arguments, **_settings):
        raise RuntimeError("a bug")

    monkeypatch.setattr(running.tokenizer, "decode", broken)
    counts = Counts(running, method)
    assert finish(start(stub, method, ask(method, png, stream))) is grpc.StatusCode.INTERNAL
    counts.check("Internal")


def test_a_shed_truncate_counts_as_resource_exhausted(start_server, png):
    running = start_server(max_concurrent_truncates=1)
    with running.channel() as channel, running.client() as client:
        stream = client.encode(png).to_bytes()
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        counts = Counts(running, "Truncate")
        with running.server.admission.rpc("Truncate"):
            assert finish(start(stub, "Truncate", ask("Truncate", png, stream))) is (
                grpc.StatusCode.RESOURCE_EXHAUSTED
            )
        counts.check("ResourceExhausted")


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("ListModels", model_pb.ListModelsRequest(), "OK"),
        ("GetServerInfo", model_pb.GetServerInfoRequest(), "OK"),
        ("GetModel", model_pb.GetModelRequest(name="nobody"), "NotFound"),
    ],
)
def test_model_service_is_counted_like_the_rest(running, method, request_, code):
    counts = Counts(running, method)
    with running.channel() as channel:
        finish(start(model_service_pb2_grpc.ModelServiceStub(channel), method, request_))
    counts.check(code)


def test_model_time_is_counted_once_per_call_and_waste_is_a_part_of_it(running, stub, png):
    finish(start(stub, "Encode", ask("Encode", png, b"")))
    running.tokenizer.gate.clear()
    call = start(stub, "Encode", ask("Encode", png, b""))
    running.eventually(lambda: len(running.tokenizer.calls) == 2)
    call.rpc.cancel()
    running.expect(0, "tessera_in_flight_requests")
    running.tokenizer.gate.set()
    running.expect(2, "tessera_model_call_seconds_count", op="encode")
    wasted = running.sample("tessera_wasted_compute_seconds_total", op="encode")
    assert 0 < wasted <= running.sample("tessera_model_call_seconds_sum", op="encode")


def test_a_stream_notes_the_time_it_took_to_write(running, stub, png, stream):
    for method in ("EncodeStream", "DecodeStream"):
        finish(start(stub, method, ask(method, png, stream)))
    for op in ("encode", "decode"):
        running.expect(1, "tessera_stage_duration_seconds_count", op=op, stage="write")
