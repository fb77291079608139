"""Requests that nobody waits for any longer, found on either side of the model: dropped and counted."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types


@pytest.fixture
def stub(running):
    with running.channel() as channel:
        yield tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)


def test_a_picture_that_waits_for_a_thread_is_dropped_with_its_request(start_server, png):
    running = start_server(image_threads=1)
    gate, inside = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert gate.wait(20)

    pictures = running.server._pictures
    held = running.begin(pictures.run(hold))
    assert inside.wait(5)
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        call = stub.Encode.future(pb.EncodeRequest(image=types.Image(encoded=png)), timeout=20)
        running.eventually(lambda: running.sample("tessera_queue_bytes", op="encode") > 0)
        call.cancel()
        running.eventually(lambda: running.sample("tessera_in_flight_requests") == 0)
        gate.set()
        held.result(5)
        # The pool takes work in order: once this is done, the picture had its chance.
        running.call(pictures.run(lambda: None))
    running.expect(1, "tessera_abandoned_requests_total", cause="client_cancel", stage="decoding")
    running.expect(0, "tessera_images_total", op="encode")
    running.expect(0, "tessera_queue_bytes")
    assert running.tokenizer.calls == []


def test_a_decode_whose_client_leaves_while_the_picture_is_written_was_wasted(
    running, stub, client, png, monkeypatch
):
    data = client.encode(png).to_bytes()

    async def never(*_):
        await asyncio.sleep(60)

    monkeypatch.setattr(running.server._pictures, "write", never)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Decode(pb.DecodeRequest(codestream=data), timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    running.eventually(lambda: running.sample("tessera_wasted_compute_seconds_total", op="decode") > 0)
    running.expect(1, "tessera_abandoned_requests_total", cause="deadline", stage="executing")
    running.expect(0, "tessera_in_flight_requests")


def test_a_client_that_does_not_read_hears_in_the_end_how_its_stream_ended(start_server, photo, caplog):
    running = start_server(default_deadline_s=0.5)
    with running.client() as client:
        data = client.encode(photo).to_bytes()
    output = types.OutputFormat(format=types.IMAGE_FORMAT_RAW)
    request = pb.DecodeRequest(codestream=data, output=output)
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        stream = stub.DecodeStream(pb.DecodeStreamRequest(request=request, preview_token_counts=[1]))
        running.expect(1, "tessera_abandoned_requests_total", method="DecodeStream", stage="streaming")
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caplog.records == [], "no stack of gRPC in the log"
