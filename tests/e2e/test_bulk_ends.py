"""How a bulk stream ends: cancel, deadlines, silence, drain; what was read is answered, and nothing stays."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from bulk_call import BulkCall, encode_item, encode_request, error_info, reason_of
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from running_server import Running, as_file

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types

GAUGES = ("tessera_in_flight_requests", "tessera_batch_rpc_window_items", "tessera_queue_bytes")
DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED


def received(running: Running, method: str = "EncodeMany") -> float:
    return running.sample("grpc_server_msg_received_total", grpc_method=method)


def expect_code(running: Running, code: str, method: str = "EncodeMany") -> None:
    running.expect(1, "grpc_server_started_total", grpc_method=method)
    running.expect(1, "grpc_server_handled_total", grpc_method=method, grpc_code=code)


def expect_nothing_left(running: Running) -> None:
    for gauge in GAUGES:
        running.expect(0, gauge)


def task_count(running: Running) -> int:
    async def count() -> int:
        return len(asyncio.all_tasks())

    return running.call(count())


def big_decode(running: Running, photo) -> pb.DecodeRequest:
    """Its result has three megabytes, more than the transport buffers."""
    with running.client() as client:
        tokens = client.encode(photo).tokens
    sequence = types.TokenSequence(
        tokens=tokens, source_width_px=1000, source_height_px=1000, fingerprint="0011aabb"
    )
    return pb.DecodeRequest(tokens=sequence, output=types.OutputFormat(format=types.IMAGE_FORMAT_RAW))


def test_a_cancel_frees_everything_at_once(start_server, png):
    running = start_server(max_batch_size=2)
    tasks = task_count(running)
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        call = BulkCall(channel)
        call.send(*(encode_item(index, png) for index in range(30)))
        running.eventually(lambda: received(running) == 16)
        running.eventually(lambda: running.tokenizer.calls != [])
        call.rpc.cancel()
        expect_nothing_left(running)
        expect_code(running, "Canceled")
        running.expect(16, "tessera_abandoned_requests_total", method="EncodeMany", cause="client_cancel")
        assert sum(count for _, count in running.tokenizer.calls) <= 2, "only what ran already was run"
        call.close()
    running.tokenizer.gate.set()
    running.eventually(lambda: task_count(running) <= tasks)
    running.eventually(lambda: running.sample("tessera_wasted_compute_seconds_total", op="encode") > 0)


def test_cancelling_at_any_moment_leaves_nothing_behind(running, png):
    tasks = task_count(running)
    with running.channel() as channel:
        for delay_ms in range(40):
            call = BulkCall(channel)
            call.send(*(encode_item(index, png) for index in range(20)))
            time.sleep(delay_ms / 2000)
            call.rpc.cancel()
            call.close()
    expect_nothing_left(running)
    started = running.sample("grpc_server_started_total")
    running.eventually(lambda: running.sample("grpc_server_handled_total") == started)
    running.eventually(lambda: task_count(running) <= tasks)
    with running.client() as client:
        assert client.encode(png).length == 1560


def test_the_deadline_of_the_rpc_ends_the_whole_stream(running, png):
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        call = BulkCall(channel, timeout=0.5)
        call.send(*(encode_item(index, png) for index in range(4)))
        results, error = call.until_it_fails()
    assert (results, error.code()) == ([], DEADLINE)
    expect_nothing_left(running)
    expect_code(running, "DeadlineExceeded")
    running.expect(4, "tessera_abandoned_requests_total", method="EncodeMany", cause="deadline")


def one_by_one(call: BulkCall, png: bytes, most: int) -> Iterator[Any]:
    """Results of items that are sent one after the other, a tenth of a second apart."""
    for index in range(4, 4 + most):
        call.send(encode_item(index, png))
        yield next(iter(call))
        time.sleep(0.1)


def test_without_a_deadline_each_item_has_the_servers_and_misses_it_in_its_place(start_server, png):
    running = start_server(default_deadline_s=0.3, max_batch_size=1)
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        call = BulkCall(channel, timeout=None)
        call.send(encode_item(1, png), encode_item(2, b""), encode_item(3, png))
        late, bad, also_late = (next(iter(call)) for _ in range(3))
        for result in (late, also_late):
            assert result.error.code == DEADLINE.value[0]
            assert error_info(result.error).reason == "DEADLINE_UNMEETABLE"
        running.expect(2, "tessera_abandoned_requests_total", method="EncodeMany", cause="deadline")
        assert error_info(bad.error).reason == "IMAGE_MISSING"
        running.tokenizer.gate.set()
        # The slow batch, the only one so far, makes the server expect as slow ones for some seconds.
        good = next(filter(lambda result: result.HasField("response"), one_by_one(call, png, 60)))
        assert good.response.codestream.token_count == 1560
        call.close()
        assert list(call) == []
    expect_code(running, "OK")


def test_an_item_whose_time_ran_out_is_not_abandoned_again_with_its_stream(start_server, photo):
    """Items behind a result that nobody reads miss their deadline; then the client leaves."""
    running = start_server(default_deadline_s=1.0)
    request = big_decode(running, photo)
    with running.channel() as channel:
        call = BulkCall(channel, "DecodeMany", timeout=None)
        call.send(*(pb.DecodeManyRequest(item_id=index, request=request) for index in range(3)))
        decoded = {"op": "decode", "stage": "inference"}
        running.eventually(lambda: running.sample("tessera_stage_duration_seconds_count", **decoded) == 3)
        running.tokenizer.gate.clear()
        call.send(*(pb.DecodeManyRequest(item_id=index, request=request) for index in (3, 4)))
        running.expect(2, "tessera_abandoned_requests_total", cause="deadline")
        left = running.sample("tessera_batch_rpc_window_items")
        assert left > 2, "the results before the late ones are not read"
        call.rpc.cancel()
        expect_nothing_left(running)
        call.close()
    running.expect(2, "tessera_abandoned_requests_total", cause="deadline")
    running.expect(left - 2, "tessera_abandoned_requests_total", cause="client_cancel")
    expect_code(running, "Canceled", "DecodeMany")


def test_a_stream_may_last_longer_than_the_deadline_and_the_age_of_its_connection(start_server, png):
    running = start_server(default_deadline_s=0.5, max_connection_age_s=0.1)
    with running.channel() as channel:
        call = BulkCall(channel, timeout=None)
        for index in range(8):
            call.send(encode_item(index, png))
            assert next(iter(call)).response.codestream.token_count == 1560
            time.sleep(0.2)
        call.close()
        assert list(call) == []


def test_a_client_that_sends_nothing_is_sent_away(start_server, png):
    running = start_server(stream_idle_timeout_s=0.3)
    with running.channel() as channel:
        call = BulkCall(channel, timeout=None)
        call.send(encode_item(1, png))
        results, error = call.until_it_fails()
    assert [result.item_id for result in results] == [1]
    assert (error.code(), reason_of(error)) == (DEADLINE, "STREAM_IDLE")
    expect_nothing_left(running)
    expect_code(running, "DeadlineExceeded")


def test_a_stream_whose_items_take_long_is_not_idle(start_server, png):
    running = start_server(stream_idle_timeout_s=0.3)
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        call = BulkCall(channel)
        call.send(encode_item(1, png))
        time.sleep(1)
        running.tokenizer.gate.set()
        assert next(iter(call)).response.codestream.token_count == 1560
        call.close()
        assert list(call) == []


def test_a_client_that_reads_nothing_for_too_long_loses_its_place(start_server, photo, caplog):
    running = start_server(stream_idle_timeout_s=0.3)
    tasks = task_count(running)
    request = big_decode(running, photo)
    with running.channel() as channel:
        call = BulkCall(channel, "DecodeMany", timeout=None)
        call.send(*(pb.DecodeManyRequest(item_id=index, request=request) for index in range(20)))
        running.eventually(lambda: received(running, "DecodeMany") >= 3)
        expect_nothing_left(running)
        expect_code(running, "DeadlineExceeded", "DecodeMany")
        # What had left before is there, and then the reason.
        results, error = call.until_it_fails()
        assert [result.item_id for result in results] == list(range(len(results)))
        assert reason_of(error) == "STREAM_IDLE"
    running.eventually(lambda: task_count(running) <= tasks)
    assert caplog.records == [], "no stack of gRPC in the log"


def test_a_drain_stops_reading_and_delivers_what_was_read(start_server, png):
    running = start_server()
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        call = BulkCall(channel)
        call.send(*(encode_item(index, png) for index in range(3)))
        running.eventually(lambda: received(running) == 3)
        draining = asyncio.run_coroutine_threadsafe(running.server.drain(), running.loop)
        running.eventually(running.server.admission.draining.is_set)
        call.send(encode_item(3, png))
        time.sleep(0.1)
        assert not draining.done()
        running.tokenizer.gate.set()
        results, error = call.until_it_fails()
        _, refused = BulkCall(channel).until_it_fails()
    assert [result.item_id for result in results if result.HasField("response")] == [0, 1, 2]
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in rpc_status.from_call(error).details)
    assert reason_of(refused) == "SERVER_DRAINING"
    assert draining.result(5) is True
    assert received(running) == 3
    expect_nothing_left(running)


def test_a_drain_lets_a_stream_end_well_whose_client_was_done(start_server, png):
    running = start_server()
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        call = BulkCall(channel)
        call.send(*(encode_item(index, png) for index in range(3)))
        call.close()
        running.eventually(lambda: received(running) == 3)
        time.sleep(0.1)
        draining = asyncio.run_coroutine_threadsafe(running.server.drain(), running.loop)
        running.eventually(running.server.admission.draining.is_set)
        running.tokenizer.gate.set()
        assert [result.item_id for result in call] == [0, 1, 2]
    assert draining.result(5) is True


def test_sigterm_delivers_what_was_read_and_exits_0(tmp_path, photo):
    port_file = tmp_path / "ports.json"
    command = [sys.executable, str(Path(__file__).with_name("serve_fake.py")), str(port_file), "0.3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            end = time.monotonic() + 60
            while not port_file.exists() and time.monotonic() < end and child.poll() is None:
                time.sleep(0.02)
            target = json.loads(port_file.read_text())["target"]
            with grpc.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
                call = BulkCall(channel)
                file = as_file(photo, "PNG")
                call.send(*(encode_item(index, file) for index in range(60)))
                first = next(iter(call))
                child.send_signal(signal.SIGTERM)
                results, error = call.until_it_fails()
            ids = [result.item_id for result in (first, *results)]
            assert ids == list(range(len(ids))) and 8 <= len(ids) < 60
            assert all(result.HasField("response") for result in (first, *results))
            assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
            assert child.wait(timeout=15) == 0
        finally:
            child.kill()


def test_items_count_in_the_metrics_of_pictures_tokens_and_stages(running, png):
    with running.channel() as channel:
        encoding = BulkCall(channel)
        encoding.send(*(encode_item(index, png) for index in range(5)), encode_item(5, b"nothing"))
        encoding.close()
        streams = [result.response.codestream.data for result in encoding]
        decoding = BulkCall(channel, "DecodeMany")
        requests = [pb.DecodeRequest(codestream=data) for data in streams[:5]]
        decoding.send(*(pb.DecodeManyRequest(item_id=i, request=r) for i, r in enumerate(requests)))
        decoding.close()
        assert len(list(decoding)) == 5
    for method, op, count in (("EncodeMany", "encode", 6), ("DecodeMany", "decode", 5)):
        expect_code(running, "OK", method)
        running.expect(count, "grpc_server_msg_received_total", grpc_method=method)
        running.expect(count, "grpc_server_msg_sent_total", grpc_method=method)
        running.expect(count, "tessera_batch_rpc_items_sum", method=method)
        running.expect(1, "tessera_batch_rpc_items_count", method=method)
        running.expect(5, "tessera_images_total", op=op)
        running.expect(5 * 1560, "tessera_tokens_total", op=op)
        running.expect(5, "tessera_stage_duration_seconds_count", op=op, stage="queue")
        # What a single request meets; bulk items have a lane of their own.
        running.expect(0, "tessera_queue_wait_seconds_count", op=op)
    running.expect(1, "tessera_batch_rpc_item_errors_total")
    running.expect(0, "tessera_abandoned_requests_total")
    expect_nothing_left(running)


def test_the_answer_of_a_bulk_item_is_not_held_up_by_items_behind_it(running, png):
    """A client that waits for each result before it sends the next item gets it."""
    with running.channel() as channel:
        call = BulkCall(channel)
        for index in range(5):
            call.send(pb.EncodeManyRequest(item_id=index, request=encode_request(png)))
            assert next(iter(call)).item_id == index
        call.close()
        assert list(call) == []


def test_a_message_above_the_limit_ends_the_stream_and_leaves_nothing_behind(start_server, png):
    running = start_server(
        max_request_size_bytes=100_000, max_image_size_bytes=50_000, max_codestream_size_bytes=50_000
    )
    tasks = task_count(running)
    with running.channel() as channel:
        call = BulkCall(channel)
        call.send(encode_item(1, png), encode_item(2, bytes(200_000)), encode_item(3, png))
        results, error = call.until_it_fails()
    assert [result.item_id for result in results] in ([], [1])
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    expect_nothing_left(running)
    running.expect(1, "grpc_server_handled_total", grpc_method="EncodeMany")
    running.eventually(lambda: task_count(running) <= tasks)
