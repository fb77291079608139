"""EncodeMany and DecodeMany: order, errors in place, window, back-pressure, fairness."""

from __future__ import annotations

import threading
import time

import grpc
import pytest
from bulk_call import BulkCall, encode_item, encode_request, error_info, reason_of
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from running_server import Running, as_file

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types


@pytest.fixture
def channel(running: Running):
    with running.channel() as channel:
        yield channel


@pytest.fixture
def stub(channel):
    return tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)


def many(channel, items, method: str = "EncodeMany") -> list:
    """All results of these items."""
    call = BulkCall(channel, method)
    call.send(*items)
    call.close()
    return list(call)


def received(running: Running, method: str = "EncodeMany") -> float:
    return running.sample("grpc_server_msg_received_total", grpc_method=method)


def pictures(photo, count: int) -> list[bytes]:
    return [as_file(photo[: 64 + 8 * index], "PNG") for index in range(count)]


def test_results_are_those_of_encode_in_the_order_of_the_requests(channel, stub, photo):
    files = pictures(photo, 12)
    options = pb.EncodeOptions(include_token_ids=True)
    rate = types.RateTarget(max_token_count=50)
    # Every third one goes to another coding and so to another batch.
    requests = [encode_request(file, options=options, rate=rate) for file in files]
    for request in requests[::3]:
        request.options.coding = types.CODING_FIXED
    items = [pb.EncodeManyRequest(item_id=10 * index, request=r) for index, r in enumerate(requests)]
    results = many(channel, items)
    assert [result.item_id for result in results] == [item.item_id for item in items]
    for result, request in zip(results, requests, strict=True):
        alone = stub.Encode(request)
        assert result.response.codestream == alone.codestream
        assert result.response.stats == alone.stats
        assert result.response.timings.total_duration.ToNanoseconds() > 0


def test_results_are_those_of_decode(channel, stub, photo):
    requests = [
        pb.DecodeRequest(codestream=stub.Encode(encode_request(file)).codestream.data, max_token_count=9)
        for file in pictures(photo, 5)
    ]
    items = [pb.DecodeManyRequest(item_id=index - 2, request=r) for index, r in enumerate(requests)]
    results = many(channel, items, "DecodeMany")
    assert [result.item_id for result in results] == [-2, -1, 0, 1, 2]
    assert [result.response.image for result in results] == [stub.Decode(r).image for r in requests]
    assert [result.response.token_count for result in results] == [9] * 5


def test_a_stream_without_items_ends_well(running, channel):
    assert many(channel, []) == []
    running.expect(1, "tessera_batch_rpc_items_count", method="EncodeMany")


def test_a_bad_item_is_its_unary_error_in_its_place_and_the_stream_goes_on(running, channel, stub, png):
    unreachable = types.RateTarget(
        quality=types.QualityTarget(metric=types.QUALITY_METRIC_PSNR_DB, min_value=99),
        shortfall_policy=types.SHORTFALL_POLICY_FAIL,
    )
    bad = [
        encode_request(b"GIF89a" + bytes(100)),
        encode_request(png[:200]),
        encode_request(png, rate=unreachable),
        encode_request(png, model="nobody"),
        pb.EncodeRequest(),
    ]
    requests = [r for wrong in bad for r in (encode_request(png), wrong)]
    items = [pb.EncodeManyRequest(item_id=index, request=r) for index, r in enumerate(requests)]
    results = many(channel, items)
    assert [result.WhichOneof("result") for result in results] == ["response", "error"] * len(bad)
    reasons = []
    for result, request in zip(results[1::2], bad, strict=True):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Encode(request)
        alone = rpc_status.from_call(caught.value)
        assert (result.error.code, result.error.message) == (alone.code, alone.message)
        info, info_alone = error_info(result.error), error_info(alone)
        assert info.metadata.pop("request_id") and info_alone.metadata.pop("request_id")
        assert info == info_alone
        assert list(result.error.details[1:]) == list(alone.details[1:])
        reasons.append(info.reason)
    violation = error_details_pb2.BadRequest()
    assert results[1].error.details[1].Unpack(violation)
    assert violation.field_violations[0].field == "image.source"
    for reason in reasons:
        running.expect(1, "tessera_batch_rpc_item_errors_total", method="EncodeMany", reason=reason)
        running.expect(1, "tessera_invalid_requests_total", method="EncodeMany", reason=reason)


def test_a_bug_of_ours_fails_its_item_alone_and_shows_an_error_id_only(running, channel, photo):
    broken = photo.copy()
    broken[0, 0, 0] = running.tokenizer.poison = 77
    files = [as_file(pixels, "PNG") for pixels in (photo, broken, photo)]
    good, wrong, last = many(channel, [encode_item(index, file) for index, file in enumerate(files)])
    assert good.HasField("response") and last.HasField("response")
    assert wrong.error.code == grpc.StatusCode.INTERNAL.value[0]
    assert error_info(wrong.error).metadata["error_id"] in wrong.error.message
    assert "secret" not in str(wrong)


@pytest.mark.parametrize("ids", [(5, 7, 7, 9), (5, 7, 6, 9), (-1, 0, -1)])
def test_ids_that_do_not_increase_end_the_stream_after_the_results_before(channel, png, ids):
    call = BulkCall(channel)
    call.send(*(encode_item(item_id, png) for item_id in ids))
    results, error = call.until_it_fails()
    assert [result.item_id for result in results] == list(ids[:2])
    assert all(result.HasField("response") for result in results)
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "ITEM_ID_NOT_INCREASING")


def test_bytes_that_are_no_request_fail_their_item_and_bytes_that_are_no_item_the_stream(running, png):
    garbage = b"\x08\x02\x12\x02\xff\xff"  # item 2, whose request is no message
    with running.channel() as channel:
        method = channel.stream_stream("/tessera.v1.TokenizerService/EncodeMany")
        messages = [encode_item(1, png).SerializeToString(), garbage, b"\xff\xff"]
        results = []
        with pytest.raises(grpc.RpcError) as caught:
            for result in method(iter(messages), timeout=10):
                results.append(pb.EncodeManyResponse.FromString(result))
    assert [result.item_id for result in results] == [1, 2]
    assert error_info(results[1].error).reason == "REQUEST_MALFORMED"
    assert reason_of(caught.value) == "REQUEST_MALFORMED"


def test_large_items_are_split_off_the_loop_and_give_the_same(channel, stub):
    height, width = 300, 400
    tensor = types.Tensor(height_px=height, width_px=width, channel_count=3, data=bytes(3 * height * width))
    request = pb.EncodeRequest(image=types.Image(tensor=tensor))
    (result,) = many(channel, [pb.EncodeManyRequest(item_id=1, request=request)])
    assert result.response.codestream == stub.Encode(request).codestream


def test_no_more_items_are_read_than_the_window_holds(start_server, png):
    running = start_server(max_stream_window_items=5)
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        call = BulkCall(channel)
        call.send(*(encode_item(index, png) for index in range(30)))
        running.eventually(lambda: received(running) == 5)
        time.sleep(0.2)
        assert received(running) == 5
        running.expect(5, "tessera_batch_rpc_window_items", method="EncodeMany")
        running.tokenizer.gate.set()
        call.close()
        assert [result.item_id for result in call] == list(range(30))
    running.expect(0, "tessera_batch_rpc_window_items")


def test_a_client_that_does_not_read_is_not_read_from(start_server, photo):
    running = start_server(max_stream_window_items=3)
    with running.channel() as channel, running.client() as client:
        # Each result is three megabytes, more than the transport buffers.
        stream = client.encode(photo).to_bytes()
        raw = types.OutputFormat(format=types.IMAGE_FORMAT_RAW)
        size = types.TokenSequence(
            tokens=stream[10:], source_width_px=1000, source_height_px=1000, fingerprint="0011aabb"
        )
        request = pb.DecodeRequest(tokens=size, output=raw)
        call = BulkCall(channel, "DecodeMany")
        call.send(*(pb.DecodeManyRequest(item_id=index, request=request) for index in range(20)))
        running.eventually(lambda: received(running, "DecodeMany") >= 3)
        time.sleep(0.5)
        sent = running.sample("grpc_server_msg_sent_total", grpc_method="DecodeMany")
        # One window is in work; gRPC and the system hold some messages for the client, how many is theirs.
        assert received(running, "DecodeMany") <= sent + 3
        assert sent <= 10
        assert client.encode(photo).length == 1560  # everything else goes on
        call.close()
        assert [len(result.response.image.data) for result in call] == [3_000_000] * 20


def test_single_requests_are_admitted_and_served_before_bulk_items(start_server, png, photo):
    running = start_server(max_batch_size=1, max_queue_items=2)
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        calls = [BulkCall(channel) for _ in range(3)]
        for call in calls:
            call.send(*(encode_item(index, png) for index in range(16)))
        running.eventually(lambda: received(running) == 48)
        running.eventually(lambda: running.tokenizer.calls == [("encode", 1)])
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        single = [stub.Encode.future(encode_request(png), timeout=20) for _ in range(2)]
        running.eventually(lambda: running.sample("tessera_queue_items", op="encode") == 2)
        with pytest.raises(grpc.RpcError) as full:
            stub.Encode(encode_request(png), timeout=5)
        assert reason_of(full.value) == "QUEUE_FULL"
        running.expect(1, "tessera_rejected_requests_total")
        running.tokenizer.gate.set()
        assert all(call.result().codestream.token_count == 1560 for call in single)
        for call in calls:
            call.close()
            assert [result.HasField("response") for result in call] == [True] * 16
    running.expect(1, "tessera_rejected_requests_total")


def test_bulk_items_wait_for_memory_and_leave_half_of_it_to_single_requests(start_server, png):
    one = 8 * 320 * 208
    running = start_server(max_image_area_px=70_000, max_queue_size_bytes=4 * one + 100)
    running.tokenizer.gate.clear()
    with running.channel() as channel:
        call = BulkCall(channel)
        call.send(*(encode_item(index, png) for index in range(10)))
        running.eventually(lambda: received(running) == 10)
        running.eventually(lambda: running.sample("tessera_queue_bytes", op="encode") == 2 * one)
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        single = [stub.Encode.future(encode_request(png), timeout=20) for _ in range(2)]
        running.eventually(lambda: running.sample("tessera_queue_bytes", op="encode") == 4 * one)
        running.tokenizer.gate.set()
        call.close()
        assert [result.HasField("response") for result in call] == [True] * 10
        assert all(one.result() for one in single)
    running.expect(0, "tessera_queue_bytes")
    running.expect(0, "tessera_rejected_requests_total")


def test_many_streams_share_the_server_and_all_get_everything(start_server, png):
    running = start_server(max_bulk_streams=6)
    ends: list[list[int]] = []
    with running.channel() as channel:

        def one_client() -> None:
            ends.append([r.item_id for r in many(channel, (encode_item(i, png) for i in range(25)))])

        threads = [threading.Thread(target=one_client) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert ends == [list(range(25))] * 6


def test_bulk_streams_have_places_of_their_own(start_server, png):
    running = start_server(max_bulk_streams=1, max_concurrent_rpcs=1)
    with running.channel() as channel:
        first = BulkCall(channel)
        first.send(encode_item(1, png))
        assert next(iter(first)).item_id == 1
        _, error = BulkCall(channel, "DecodeMany").until_it_fails()
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        assert stub.Encode(encode_request(png)).codestream.token_count == 1560
        first.close()
        assert list(first) == []
    running.expect(1, "tessera_rejected_requests_total", method="DecodeMany", reason="concurrency")


def test_the_server_tells_every_limit_it_keeps(running):
    with running.client() as client:
        limits = client.server_info().limits
    unset = {name for name in limits.__dataclass_fields__ if not getattr(limits, name)}
    # It has neither isolated decoders nor keys.
    rates = {"max_pictures_per_s", "max_megapixels_per_s", "rate_limit_burst_s"}
    assert unset == {"image_decode_timeout_s", *rates}
    assert limits.max_stream_window_item_count == running.server.config.max_stream_window_items
    assert limits.stream_idle_timeout_s == 60
