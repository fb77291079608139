"""Several models in one server: which one answers, and how they come, change and go under load."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
from fake_tokenizer import FakeTokenizer
from several_models import OTHER, SMALL, ServeModels, SeveralModels, start

from serving.client.errors import ModelMismatch, NotFound, ServiceError, service_error
from tessera.v1 import model_service_pb2, model_service_pb2_grpc, tokenizer_service_pb2_grpc
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types
from tokenizer.errors import ArtifactError
from tokenizer.sequence import TokenSequence


@pytest.fixture
def serve_models(server_loop) -> Iterator[ServeModels]:
    started: list[SeveralModels] = []

    def serve(*sources: str, **settings) -> SeveralModels:
        started.append(start(server_loop, sources or ("small", "other"), settings))
        return started[-1]

    yield serve
    for running in started:
        for tokenizer in running.shelf.alive:
            tokenizer.gate.set()
        running.call(running.server.stop())


@pytest.fixture
def running(serve_models) -> SeveralModels:
    """Two models; `small` is the default."""
    return serve_models()


@pytest.fixture
def stub(running):
    with running.channel() as channel:
        yield tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)


def call(method, request):
    try:
        return method(request, timeout=20)
    except grpc.RpcError as error:
        raise service_error(error) from error


def whole(method):
    """A streaming method as one that returns all of its replies."""
    return lambda request, timeout: list(method(request, timeout=timeout))


def encode(stub, png: bytes, model: str = "") -> types.Codestream:
    request = pb.EncodeRequest(model=model, image=types.Image(encoded=png))
    return call(stub.Encode, request).codestream


def held_up(running: SeveralModels, name: str) -> FakeTokenizer:
    """The model of this name, whose next calls wait until its gate is set."""
    (found,) = (made for made in running.shelf.alive if made.name == name)
    found.gate.clear()
    found.calls.clear()
    return found


# Which model answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", SMALL),
        ("small", SMALL),
        ("small@1", SMALL),
        ("other", OTHER),
        ("other@7", OTHER),
        (f"other@sha256:{OTHER.digest[:12]}", OTHER),
    ],
)
def test_the_named_model_encodes_and_the_default_where_none_is_named(stub, png, name, found):
    stream = encode(stub, png, name)
    assert (stream.model.name, stream.model.digest) == (found.name, found.digest)
    assert TokenSequence.from_bytes(stream.data).fingerprint == found.fingerprint
    request = pb.EncodeStreamRequest(model=name, image=types.Image(encoded=png))
    header = next(iter(stub.EncodeStream(request, timeout=20))).header
    assert header.model.name == found.name


@pytest.mark.parametrize("name", ["third", "small@2", "other@sha256:00000000"])
def test_a_model_that_is_not_served_is_not_found_in_any_rpc(stub, png, name):
    stream = encode(stub, png).data
    decode = pb.DecodeRequest(model=name, codestream=stream)
    image = types.Image(encoded=png)
    for method, request in (
        (stub.Encode, pb.EncodeRequest(model=name, image=image)),
        (stub.Decode, decode),
        (lambda r, timeout: list(stub.EncodeStream(r, timeout=timeout)), pb.EncodeStreamRequest(model=name)),
        (
            lambda r, timeout: list(stub.DecodeStream(r, timeout=timeout)),
            pb.DecodeStreamRequest(request=decode),
        ),
    ):
        with pytest.raises(NotFound) as caught:
            call(method, request)
        assert caught.value.reason == "MODEL_NOT_FOUND"
        assert caught.value.metadata["served"] == "small@1, other@7"


def test_a_stream_goes_to_the_model_that_made_it(stub, png):
    stream = encode(stub, png, "other")
    reply = call(stub.Decode, pb.DecodeRequest(codestream=stream.data))
    assert reply.model.name == "other"
    sequence = TokenSequence.from_bytes(stream.data)
    bare = types.TokenSequence(
        tokens=sequence.tokens, source_width_px=320, source_height_px=208, fingerprint=sequence.fingerprint
    )
    assert call(stub.Decode, pb.DecodeRequest(tokens=bare)).model.name == "other"
    request = pb.DecodeStreamRequest(request=pb.DecodeRequest(codestream=stream.data))
    assert [reply.last for reply in stub.DecodeStream(request, timeout=20)] == [True]


def test_a_stream_of_no_served_model_and_of_another_than_the_named_are_mismatches(stub, png):
    stream = TokenSequence.from_bytes(encode(stub, png).data)
    for request in (
        pb.DecodeRequest(codestream=replace(stream, fingerprint="99999999").to_bytes()),
        pb.DecodeRequest(codestream=stream.to_bytes(), model="other"),
    ):
        with pytest.raises(ModelMismatch) as caught:
            call(stub.Decode, request)
        assert caught.value.reason == "MODEL_MISMATCH"


def test_siblings_that_read_the_same_streams_leave_them_to_the_default(serve_models, png):
    running = serve_models("small")
    running.shelf.holds["sibling"] = replace(SMALL, name="sibling", digest="cc" * 32)
    running.call(running.server.models.load("sibling"))
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        stream = encode(stub, png, "sibling")
        assert call(stub.Decode, pb.DecodeRequest(codestream=stream.data)).model.name == "small"
        named = pb.DecodeRequest(codestream=stream.data, model="sibling")
        assert call(stub.Decode, named).model.name == "sibling"


def test_truncate_knows_the_facts_of_every_served_model(running, stub, png):
    stream = encode(stub, png, "other")
    request = pb.TruncateRequest(codestream=stream.data, rate=types.RateTarget(max_token_count=5))
    assert call(stub.Truncate, request).codestream.model.name == "other"
    running.expect(5, "tessera_tokens_total", model="other", op="truncate")


def test_all_models_are_listed_with_the_default_first(running):
    with running.channel() as channel:
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        listed = models.ListModels(model_service_pb2.ListModelsRequest()).models
        assert [(m.ref.name, m.default) for m in listed] == [("small", True), ("other", False)]
        for name in ("other", "other@7"):
            assert models.GetModel(model_service_pb2.GetModelRequest(name=name)).model.ref.name == "other"


def test_each_model_has_its_own_series_and_they_share_the_memory(running, stub, png):
    encode(stub, png, "other")
    running.expect(1, "tessera_batch_size_count", model="other", op="encode")
    running.expect(0, "tessera_batch_size_count", model="small", op="encode")
    for name, version in (("small", "1"), ("other", "7")):
        running.expect(1, "tessera_model_ready", model=name, version=version)
        running.expect(1, "tessera_model_info", model=name, version=version)
    limit = running.server.config.max_queue_size_bytes
    running.expect(limit, "tessera_queue_limit_bytes", model="other", op="encode")


# Changes under load --------------------------------------------------------------------------------------


def test_no_rpc_fails_while_models_are_reloaded_and_the_old_ones_are_freed(running, png):
    failures, done, stop = [], [0] * 4, threading.Event()

    def work(index: int) -> None:
        with running.channel() as channel:
            stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
            while not stop.is_set():
                try:
                    stream = encode(stub, png, ("small", "other")[index % 2])
                    call(stub.Decode, pb.DecodeRequest(codestream=stream.data))
                    done[index] += 1
                except ServiceError as error:
                    failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(done))]
    for thread in threads:
        thread.start()
    for _ in range(10):
        before = list(done)
        running.call(running.server.models.reload("small"))
        running.call(running.server.models.reload("other"))
        running.eventually(lambda before=before: all(a > b for a, b in zip(done, before, strict=True)))
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    running.expect(10, "tessera_model_reloads_total", model="small", result="ok")
    running.expect(0, "tessera_queue_items")
    running.expect(0, "tessera_queue_bytes")
    assert len(running.shelf.loaded) == 22
    running.eventually(lambda: len(running.shelf.alive) == 2)


def test_a_model_is_freed_without_the_garbage_collector(running, stub, png):
    """What a server froze after its start is never collected: a cycle would keep the first model for good."""
    encode(stub, png)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        running.call(running.server.models.reload("small"))
        running.eventually(lambda: running.shelf.loaded[0]() is None)
    finally:
        gc.enable()
        gc.unfreeze()


def test_a_request_that_has_begun_ends_on_the_model_it_began_on(running, stub, png):
    old = held_up(running, "small")
    running.shelf.holds["small"] = replace(SMALL, version="2", digest="a2" * 32)
    begun = stub.Encode.future(pb.EncodeRequest(image=types.Image(encoded=png)), timeout=20)
    running.eventually(lambda: old.calls == [("encode", 1)])
    reloading = running.begin(running.server.models.reload())
    running.eventually(lambda: running.server.models.find().ref.version == "2")
    assert encode(stub, png).model.version == "2"
    assert not begun.done()
    old.gate.set()
    assert begun.result().codestream.model.version == "1"
    assert reloading.result(10).ref.version == "2"
    running.expect(0, "tessera_model_ready", model="small", version="1")
    running.expect(1, "tessera_model_ready", model="small", version="2")


@pytest.mark.parametrize(
    "held", [ArtifactError("decoder.onnx is not the file that the manifest names"), MemoryError()]
)
def test_a_reload_that_fails_leaves_the_old_model_serving(running, stub, png, held):
    running.shelf.holds["small"] = held
    with pytest.raises(Exception, match=r"manifest names|not enough memory"):
        running.call(running.server.models.reload())
    assert encode(stub, png).model.version == "1"
    running.expect(1, "tessera_model_reloads_total", model="small", result="failed")
    running.expect(1, "tessera_model_ready", model="small")


def test_a_request_that_outlasts_a_drain_is_told_to_ask_again(serve_models, png):
    running = serve_models(model_drain_timeout_s=0.1)
    old = held_up(running, "small")
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        begun = stub.Encode.future(pb.EncodeRequest(image=types.Image(encoded=png)), timeout=20)
        running.eventually(lambda: old.calls == [("encode", 1)])
        running.call(running.server.models.reload())
        with pytest.raises(ServiceError) as caught:
            try:
                begun.result()
            except grpc.RpcError as error:
                raise service_error(error) from error
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "MODEL_UNLOADED")
        assert encode(stub, png).model.name == "small"
        old.gate.set()


def test_unloading_waits_for_leases_and_takes_the_gauges_along(running, stub, png):
    other = held_up(running, "other")
    begun = stub.Encode.future(pb.EncodeRequest(model="other", image=types.Image(encoded=png)), timeout=20)
    running.eventually(lambda: other.calls == [("encode", 1)])
    unloading = running.begin(running.server.models.unload("other"))
    running.eventually(lambda: len(running.server.models.in_service) == 1)
    with pytest.raises(NotFound):
        encode(stub, png, "other")
    assert not unloading.done()
    other.gate.set()
    assert begun.result().codestream.model.name == "other"
    unloading.result(10)
    names = {name for name, labels in running.samples() if ("model", "other") in labels}
    assert not any(name.startswith(("tessera_queue_limit", "tessera_model_ready")) for name in names)
    assert "tessera_batches_total" in names


def test_a_drain_lets_no_picture_of_any_model_wait_for_company(serve_models, png):
    running = serve_models(max_queue_delay_s=1.0, max_batch_size=4)
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        requests = (
            pb.EncodeRequest(model=name, image=types.Image(encoded=png)) for name in ("small", "other")
        )
        calls = [stub.Encode.future(request, timeout=20) for request in requests]
        running.eventually(lambda: running.sample("tessera_queue_items", op="encode") == 2)
        assert running.call(running.server.drain())
        for call_ in calls:
            call_.result()
    running.expect(2, "tessera_batches_total", trigger="drain")
