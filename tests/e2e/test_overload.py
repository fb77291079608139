"""More work than fits, clients that leave, deadlines that pass: what is shed, dropped and counted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from running_server import Running

from serving.admission import ServerState
from serving.client.errors import Overloaded, Unavailable
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types
from tokenizer.budget import TokenBudget


def request(png: bytes) -> pb.EncodeRequest:
    return pb.EncodeRequest(image=types.Image(encoded=png))


def fill(running: Running, stub, png: bytes, count: int) -> list[grpc.Future]:
    """Send this many requests while the model is stuck; returns once all are in.

    Keep the returned calls: gRPC cancels a call that nobody holds.
    """
    running.tokenizer.gate.clear()
    running.tokenizer.calls.clear()
    calls = [stub.Encode.future(request(png), timeout=20)]
    # Only once the worker holds the first does the queue have all its places for the others.
    running.eventually(lambda: running.tokenizer.calls == [("encode", 1)])
    calls += [stub.Encode.future(request(png), timeout=20) for _ in range(count - 1)]
    running.eventually(lambda: running.sample("tessera_in_flight_requests") == count)
    return calls


@pytest.fixture
def small(start_server):
    """One picture per batch, two waiting."""
    return start_server(max_batch_size=1, max_queue_items=2)


def test_a_full_queue_refuses_with_reason_and_advice_when_to_return(small, png):
    with small.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        calls = fill(small, stub, png, 3)
        small.eventually(lambda: small.sample("tessera_queue_items", op="encode") == 2)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Encode(request(png), timeout=5)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        details = rpc_status.from_call(caught.value).details
        assert details[0].Unpack(info) and details[1].Unpack(retry)
        assert (info.reason, info.domain) == ("QUEUE_FULL", "tessera.v1")
        trailers = dict(caught.value.trailing_metadata())
        assert int(trailers["grpc-retry-pushback-ms"]) == retry.retry_delay.ToMilliseconds() > 0
        small.tokenizer.gate.set()
        assert all(call.result().codestream.token_count == 1560 for call in calls)
    small.expect(1, "tessera_rejected_requests_total", reason="queue_items")


def test_a_picture_that_is_refused_is_not_decoded_first(small, png):
    with small.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        calls = fill(small, stub, png, 3)
        small.eventually(lambda: small.sample("tessera_queue_items", op="encode") == 2)
        before = small.sample("tessera_images_total", op="encode")
        for _ in range(3):
            with pytest.raises(grpc.RpcError, match="pictures wait already"):
                stub.Encode(request(png), timeout=5)
        assert small.sample("tessera_images_total", op="encode") == before
        small.tokenizer.gate.set()
        assert all(call.result() for call in calls)


def test_probes_and_small_work_stay_healthy_under_overload(start_server, png):
    busy = start_server(max_batch_size=1, max_queue_items=2, max_concurrent_rpcs=3)
    with busy.channel() as channel, busy.client() as client:
        data = client.encode(png).to_bytes()
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        held = fill(busy, stub, png, 3)
        health = health_pb2_grpc.HealthStub(channel)
        for _ in range(5):
            with pytest.raises(grpc.RpcError):
                stub.Encode(request(png), timeout=5)
            reply = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            assert busy.http("/livez") == busy.http("/readyz") == "ok\n"
            assert client.truncate(data, max_bytes=64) == data[:64]
            assert client.server_info().ready
        busy.expect(5, "tessera_rejected_requests_total", reason="concurrency")
        busy.tokenizer.gate.set()
        assert all(call.result() for call in held)


def test_the_client_retries_what_was_shed_and_succeeds_once_there_is_room(small, png):
    with small.channel() as channel, small.client() as client:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        held = fill(small, stub, png, 3)
        small.eventually(lambda: small.sample("tessera_queue_items", op="encode") == 2)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(client.encode, png)
            small.eventually(lambda: small.sample("tessera_rejected_requests_total") >= 1)
            small.tokenizer.gate.set()
            assert late.result(20).length == 1560
        assert all(call.result() for call in held)


def test_the_client_gives_up_on_a_server_that_stays_full(small, png):
    with small.channel() as channel, small.client() as client:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        held = fill(small, stub, png, 3)
        small.eventually(lambda: small.sample("tessera_queue_items", op="encode") == 2)
        with pytest.raises(Overloaded) as caught:
            client.encode(png)
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after_s > 0
        small.expect(4, "tessera_rejected_requests_total", reason="queue_items")
        small.tokenizer.gate.set()
        assert all(call.result() for call in held)


def test_memory_of_pictures_is_bounded_before_they_are_decoded(start_server, png):
    tight = start_server(max_image_area_px=70_000, max_queue_size_bytes=8 * 70_000)
    with tight.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        (held,) = fill(tight, stub, png, 1)
        tight.eventually(lambda: tight.sample("tessera_queue_bytes", op="encode") == 8 * 320 * 208)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Encode(request(png), timeout=5)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        tight.tokenizer.gate.set()
        held.result()
    tight.expect(1, "tessera_rejected_requests_total", reason="queue_bytes")
    tight.expect(0, "tessera_queue_bytes")


def test_what_waits_together_is_run_together(start_server, png):
    running = start_server(max_batch_size=4)
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        calls = fill(running, stub, png, 6)
        running.eventually(lambda: running.sample("tessera_queue_items", op="encode") == 5)
        running.tokenizer.gate.set()
        streams = {call.result().codestream.data for call in calls}
    assert len(streams) == 1
    assert running.tokenizer.calls == [("encode", 1), ("encode", 4), ("encode", 1)]


def test_pictures_on_different_canvases_do_not_share_a_batch(start_server, png):
    running = start_server(max_batch_size=4)
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        held = fill(running, stub, png, 1)
        options = pb.EncodeOptions(canvas_area_px=16_384)
        small = pb.EncodeRequest(image=types.Image(encoded=png), options=options)
        calls = [stub.Encode.future(one, timeout=20) for one in (small, request(png), small)]
        running.eventually(lambda: running.sample("tessera_queue_items", op="encode") == 3)
        running.tokenizer.gate.set()
        lengths = [call.result().codestream.total_token_count for call in calls]
        assert all(call.result() for call in held)
    assert lengths[0] == lengths[2] < lengths[1] == 1560
    assert sorted(running.tokenizer.calls) == [("encode", 1), ("encode", 1), ("encode", 2)]


def test_pictures_of_different_codings_do_not_share_a_batch_and_streams_do(start_server, png):
    running = start_server(max_batch_size=4)
    codings = (types.CODING_FIXED, types.CODING_UNSPECIFIED, types.CODING_FIXED, types.CODING_RANGE)
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        held = fill(running, stub, png, 1)
        requests = [
            pb.EncodeRequest(image=types.Image(encoded=png), options=pb.EncodeOptions(coding=coding))
            for coding in codings
        ]
        calls = [stub.Encode.future(one, timeout=20) for one in requests]
        running.eventually(lambda: running.sample("tessera_queue_items", op="encode") == 4)
        running.tokenizer.gate.set()
        streams = [call.result().codestream.data for call in (*held, *calls)]
        assert running.tokenizer.calls == [("encode", 1), ("encode", 2), ("encode", 2)]
        assert [data[1] >> 1 & 7 for data in streams] == [2, 1, 2, 1, 2]

        requests = [pb.DecodeRequest(codestream=data) for data in streams]
        alone = [stub.Decode(one).image for one in requests]
        running.tokenizer.calls.clear()
        running.tokenizer.gate.clear()
        calls = [stub.Decode.future(requests[0], timeout=20)]
        running.eventually(lambda: running.tokenizer.calls == [("decode", 1)])
        calls += [stub.Decode.future(one, timeout=20) for one in requests[1:]]
        running.eventually(lambda: running.sample("tessera_queue_items", op="decode") == 4)
        running.tokenizer.gate.set()
        assert [call.result().image for call in calls] == alone
    assert running.tokenizer.calls == [("decode", 1), ("decode", 4)]


def test_a_picture_that_breaks_the_model_does_not_take_its_neighbours_with_it(start_server, photo):
    running = start_server(max_batch_size=4)
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)

        def tensor(pixels):
            height, width, channels = pixels.shape
            data = pixels.tobytes()
            return types.Tensor(height_px=height, width_px=width, channel_count=channels, data=data)

        broken = photo.copy()
        broken[0, 0, 0] = running.tokenizer.poison = 77
        running.tokenizer.gate.clear()
        calls = []
        for pixels in (photo, broken, photo, photo):
            one = pb.EncodeRequest(image=types.Image(tensor=tensor(pixels)))
            calls.append(stub.Encode.future(one, timeout=20))
            running.eventually(lambda: running.sample("tessera_in_flight_requests") == len(calls))
        running.eventually(lambda: running.sample("tessera_queue_items", op="encode") == 3)
        running.tokenizer.gate.set()
        codes = [call.code() for call in calls]
    ok = grpc.StatusCode.OK
    assert codes == [ok, grpc.StatusCode.INTERNAL, ok, ok]


def test_a_bug_of_ours_shows_an_error_id_and_nothing_else(running, photo):
    running.tokenizer.poison = int(photo[0, 0, 0])
    with running.client() as client, pytest.raises(Exception, match="INTERNAL") as caught:
        client.encode(photo)
    assert caught.value.metadata["error_id"] in caught.value.message
    assert "secret" not in str(caught.value) and "srv" not in str(caught.value)


def test_a_request_that_is_cancelled_while_it_waits_is_never_run(small, png):
    with small.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        first, second, third = fill(small, stub, png, 3)
        small.eventually(lambda: small.sample("tessera_queue_items", op="encode") == 2)
        second.cancel()
        third.cancel()
        small.eventually(lambda: small.sample("tessera_queue_items", op="encode") == 0)
        small.tokenizer.gate.set()
        first.result()
    assert small.tokenizer.calls == [("encode", 1)]
    small.expect(2, "tessera_abandoned_requests_total", cause="client_cancel", stage="queued")
    small.eventually(lambda: small.sample("tessera_in_flight_requests") == 0)
    small.expect(0, "tessera_queue_bytes")


def test_work_that_nobody_reads_is_counted_as_wasted(small, png):
    with small.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        (call,) = fill(small, stub, png, 1)
        small.eventually(lambda: small.tokenizer.calls == [("encode", 1)])
        call.cancel()
        small.eventually(lambda: small.sample("tessera_in_flight_requests") == 0)
        small.tokenizer.gate.set()
        small.eventually(lambda: small.sample("tessera_wasted_compute_seconds_total", op="encode") > 0)
    small.expect(1, "tessera_abandoned_requests_total", stage="executing")


def test_a_deadline_that_passes_in_the_queue_spares_the_model(small, png):
    with small.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        (first,) = fill(small, stub, png, 1)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Encode(request(png), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        small.tokenizer.gate.set()
        first.result()
    assert small.tokenizer.calls == [("encode", 1)]
    small.expect(1, "tessera_abandoned_requests_total", cause="deadline", stage="queued")


def test_a_request_without_deadline_gets_the_servers(start_server, png):
    running = start_server(default_deadline_s=0.3)
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            stub.Encode(request(png))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.2 < time.monotonic() - start < 5


def test_cancelling_at_any_moment_leaves_nothing_behind(running, png):
    threads = threading.active_count()
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        for delay_ms in range(40):
            stream = stub.EncodeStream(pb.EncodeStreamRequest(image=types.Image(encoded=png)), timeout=10)
            call = stub.Encode.future(request(png), timeout=10)
            time.sleep(delay_ms / 10_000)
            call.cancel()
            stream.cancel()
    running.eventually(lambda: running.sample("tessera_in_flight_requests") == 0)
    running.expect(0, "tessera_queue_items")
    running.expect(0, "tessera_queue_bytes")
    started = running.sample("grpc_server_started_total")
    running.eventually(lambda: running.sample("grpc_server_handled_total") == started)
    assert threading.active_count() <= threads + 4
    with running.client() as client:
        assert client.encode(png, TokenBudget(max_tokens=5)).length == 5


def test_before_the_model_is_there_requests_are_told_to_come_back(start_server, png):
    loading = start_server(load=False)
    with loading.client(timeout_s=10) as client:
        assert not client.is_serving()
        assert not client.server_info().ready
        assert loading.http("/livez") == "ok\n"
        with pytest.raises(Unavailable) as caught:
            client.encode(png)
        assert caught.value.reason == "MODEL_NOT_READY"
        loading.call(loading.server.load())
        assert client.is_serving() and client.is_serving("tessera.v1.TokenizerService")
        assert client.encode(png).length == 1560


def test_a_client_of_a_server_that_goes_hears_so_and_does_not_wait_for_its_deadline(running, png):
    running.server.admission.state = ServerState.DRAINING
    with running.client(timeout_s=10) as client, pytest.raises(Unavailable) as caught:
        client.encode(png)
    assert caught.value.reason == "SERVER_DRAINING"
