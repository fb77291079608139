"""Bearer keys from outside: every refusal has its code and reason, is counted once, and costs no work."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from key_files import bearer, caller, write_keys
from running_server import Running

from serving.api_keys import new_key
from serving.client.channel import channel_options
from tessera.v1 import model_service_pb2, model_service_pb2_grpc, tokenizer_service_pb2_grpc
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types

RELOAD_S = 0.05
METHODS = ("Encode", "EncodeStream", "Decode", "DecodeStream", "Truncate")


@pytest.fixture
def keys_file(tmp_path):
    return tmp_path / "keys.toml"


@pytest.fixture
def start_with_keys(start_server, keys_file):
    """A server that knows these callers."""

    def start(*callers, **settings) -> Running:
        write_keys(keys_file, *callers)
        return start_server(auth_keys_file=keys_file, security_reload_interval_s=RELOAD_S, **settings)

    return start


@contextlib.contextmanager
def stubs(running: Running):
    with running.channel() as channel:
        yield SimpleNamespace(
            tokenizer=tokenizer_service_pb2_grpc.TokenizerServiceStub(channel),
            models=model_service_pb2_grpc.ModelServiceStub(channel),
            health=health_pb2_grpc.HealthStub(channel),
            reflection=reflection_pb2_grpc.ServerReflectionStub(channel),
            channel=channel,
        )


def encode(stub, png: bytes, metadata, timeout: float = 10):
    request = pb.EncodeRequest(image=types.Image(encoded=png))
    return stub.tokenizer.Encode(request, metadata=metadata, timeout=timeout)


def refusal(call) -> tuple[grpc.StatusCode, str]:
    """Code and reason of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), error_info(caught.value).reason


def error_info(error) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(error).details[0].Unpack(info)
    assert info.domain == "tessera.v1" and info.metadata["request_id"]
    return info


def test_a_key_opens_what_its_scopes_say_and_nothing_else(start_with_keys, png):
    writer, reader = caller("writer", scopes=("encode", "truncate")), caller("reader", scopes=("decode",))
    running = start_with_keys(writer, reader)
    with stubs(running) as stub:
        data = encode(stub, png, writer.metadata).codestream.data
        cut = pb.TruncateRequest(codestream=data, rate=types.RateTarget(max_token_count=8))
        assert stub.tokenizer.Truncate(cut, metadata=writer.metadata).codestream.token_count == 8
        decode = pb.DecodeRequest(codestream=data)
        assert stub.tokenizer.Decode(decode, metadata=reader.metadata).image.data
        denied = (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
        assert refusal(lambda: stub.tokenizer.Decode(decode, metadata=writer.metadata)) == denied
        assert refusal(lambda: encode(stub, png, reader.metadata)) == denied
        info = model_service_pb2.GetServerInfoRequest()
        assert refusal(lambda: stub.models.GetServerInfo(info, metadata=reader.metadata)) == denied
    running.expect(3, "tessera_auth_failures_total", reason="scope")


def test_missing_unknown_and_expired_keys_are_told_apart_by_their_reason_only(start_with_keys, png):
    old = caller("old", expires="2020-01-01T00:00:00Z")
    running = start_with_keys(caller("good"), old)
    with stubs(running) as stub:
        for metadata, reason in (
            ((), "TOKEN_MISSING"),
            (bearer(new_key()), "TOKEN_INVALID"),
            (bearer("not one of ours"), "TOKEN_INVALID"),
            (old.metadata, "TOKEN_EXPIRED"),
        ):
            found = refusal(lambda metadata=metadata: encode(stub, png, metadata))
            assert found == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert running.tokenizer.calls == []
    running.expect(2, "tessera_auth_failures_total", reason="invalid")
    running.expect(1, "tessera_auth_failures_total", reason="missing")
    running.expect(1, "tessera_auth_failures_total", reason="expired")


def test_a_token_of_8_kb_is_refused_and_harms_nobody(start_with_keys, png):
    good = caller("good")
    running = start_with_keys(good)
    with stubs(running) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            encode(stub, png, bearer("a" * 8192))
        # Above its soft limit for metadata, gRPC refuses by itself, sometimes; else we do.
        assert caught.value.code() in (
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        )
        assert encode(stub, png, good.metadata).codestream.data


@pytest.mark.parametrize("method", METHODS)
def test_a_refused_rpc_counts_once_as_started_and_once_as_handled(start_with_keys, png, method):
    running = start_with_keys(caller("good"))
    streams = method.endswith("Stream")
    with stubs(running) as stub, pytest.raises(grpc.RpcError) as caught:
        path = f"/tessera.v1.TokenizerService/{method}"
        if streams:
            list(stub.channel.unary_stream(path)(b"\xff\xff", timeout=5))
        else:
            stub.channel.unary_unary(path)(b"\xff\xff", timeout=5)
    # The bytes are no message: had they been read, the code would be INVALID_ARGUMENT.
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    running.expect(1, "grpc_server_handled_total", grpc_method=method)
    running.expect(1, "grpc_server_handled_total", grpc_method=method, grpc_code="Unauthenticated")
    running.expect(1, "grpc_server_started_total", grpc_method=method)
    running.expect(1, "grpc_server_handling_seconds_count", grpc_method=method)
    running.expect(0, "grpc_server_msg_received_total", grpc_method=method)
    running.expect(0, "tessera_in_flight_requests")


def test_a_large_message_without_key_is_refused_before_it_is_read(start_with_keys):
    running = start_with_keys(caller("good"))
    with stubs(running) as stub:
        found = refusal(lambda: encode(stub, bytes(16 * 2**20), ()))
    assert found == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")


def test_the_key_is_checked_before_the_model_is_looked_up(start_with_keys, png):
    running = start_with_keys(caller("good"), load=False)
    request = pb.EncodeRequest(model="no such model", image=types.Image(encoded=png))
    with stubs(running) as stub:
        found = refusal(lambda: stub.tokenizer.Encode(request, timeout=5))
    assert found == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")


def reflect(stub, metadata=()) -> reflection_pb2.ServerReflectionResponse:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    return next(stub.reflection.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=5))


def test_health_needs_no_key_and_reflection_does(start_with_keys):
    good = caller("good", scopes=("decode",))
    running = start_with_keys(good)
    with stubs(running) as stub:
        reply = stub.health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.health.Watch(health_pb2.HealthCheckRequest(), timeout=5)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert refusal(lambda: reflect(stub)) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
        assert reflect(stub, good.metadata).list_services_response.service


def test_reflection_can_be_opened(start_with_keys):
    running = start_with_keys(caller("good"), open_reflection=True)
    with stubs(running) as stub:
        assert reflect(stub).list_services_response.service


def test_keys_are_added_and_revoked_while_serving(start_with_keys, keys_file, png):
    first, second = caller("first"), caller("second")
    running = start_with_keys(first)
    with stubs(running) as stub:
        encode(stub, png, first.metadata)
        write_keys(keys_file, second)
        running.expect(1, "tessera_auth_keys_reloads_total")
        assert refusal(lambda: encode(stub, png, first.metadata))[1] == "TOKEN_INVALID"
        encode(stub, png, second.metadata)
        write_keys(keys_file)
        running.expect(0, "tessera_auth_keys")
        assert refusal(lambda: encode(stub, png, second.metadata))[1] == "TOKEN_INVALID"


def test_a_broken_keys_file_keeps_the_old_keys_and_is_counted(start_with_keys, keys_file, png):
    good = caller("good")
    running = start_with_keys(good)
    with stubs(running) as stub:
        for number, text in enumerate(("", good.entry[:40], "[[keys]]\nname = 'x'"), start=1):
            keys_file.write_text(text)
            running.expect(number, "tessera_auth_keys_reload_failures_total")
            running.expect(0, "tessera_security_files_last_reload_successful", files="keys")
            encode(stub, png, good.metadata)
        write_keys(keys_file, good, caller("other"))
        running.expect(2, "tessera_auth_keys")
        running.expect(1, "tessera_security_files_last_reload_successful", files="keys")
        encode(stub, png, good.metadata)


def test_a_spent_key_is_told_which_quota_and_when_to_return(start_with_keys, png):
    slow = caller("slow", pictures_per_s=0.5, burst_s=4)
    running = start_with_keys(slow)
    with stubs(running) as stub:
        for _ in range(2):
            encode(stub, png, slow.metadata)
        with pytest.raises(grpc.RpcError) as caught:
            encode(stub, png, slow.metadata)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    info = error_info(caught.value)
    assert (info.reason, info.metadata["quota"]) == ("RATE_LIMITED", "pictures")
    _, quota_detail, retry_detail = rpc_status.from_call(caught.value).details
    quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    assert quota_detail.Unpack(quota) and retry_detail.Unpack(retry)
    assert quota.violations[0].subject == "pictures"
    pushback_ms = int(dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"])
    assert 0 < pushback_ms <= 2000
    assert abs(pushback_ms - retry.retry_delay.ToMilliseconds()) <= 1
    running.expect(1, "tessera_rejected_requests_total", method="Encode", reason="rate_limit")
    assert len(running.tokenizer.calls) == 2


def test_an_rpc_that_is_shed_for_want_of_room_costs_its_key_nothing(start_with_keys, png):
    slow = caller("slow", pictures_per_s=0.01, burst_s=200)
    running = start_with_keys(slow, max_concurrent_rpcs=1)
    running.tokenizer.gate.clear()
    with stubs(running) as stub:
        request = pb.EncodeRequest(image=types.Image(encoded=png))
        first = stub.tokenizer.Encode.future(request, metadata=slow.metadata, timeout=20)
        running.expect(1, "tessera_in_flight_requests")
        for _ in range(3):
            assert refusal(lambda: encode(stub, png, slow.metadata))[1] == "QUEUE_FULL"
        running.tokenizer.gate.set()
        assert first.result().codestream.data
        running.expect(0, "tessera_in_flight_requests")
        encode(stub, png, slow.metadata)
        assert refusal(lambda: encode(stub, png, slow.metadata))[1] == "RATE_LIMITED"


def test_a_client_that_heeds_the_advice_gets_through_in_one_more_try(start_with_keys, png):
    slow = caller("slow", pictures_per_s=2, burst_s=0.5)
    running = start_with_keys(slow)
    options = channel_options(2**24, 2**24)
    with grpc.insecure_channel(running.server.target, options) as channel:
        stub = SimpleNamespace(tokenizer=tokenizer_service_pb2_grpc.TokenizerServiceStub(channel))
        for _ in range(2):
            assert encode(stub, png, slow.metadata).codestream.data
    running.expect(1, "tessera_rejected_requests_total", reason="rate_limit")


def test_megapixels_are_counted_from_the_header_and_refused_before_decoding(start_with_keys, png):
    # 320 x 208 pixels are 0.067 megapixels.
    small = caller("small", megapixels_per_s=0.01, burst_s=1)
    running = start_with_keys(small)
    with stubs(running) as stub:
        encode(stub, png, small.metadata)
        with pytest.raises(grpc.RpcError) as caught:
            encode(stub, png, small.metadata)
        assert error_info(caught.value).metadata["quota"] == "megapixels"
    running.expect(1, "tessera_images_total", op="encode")


def test_the_default_limit_holds_for_keys_without_one_of_their_own(start_with_keys, png):
    usual, trusted = caller("usual"), caller("trusted", pictures_per_s=1000)
    running = start_with_keys(usual, trusted, rate_limit_pictures_per_s=0.1, rate_limit_burst_s=10)
    with stubs(running) as stub:
        encode(stub, png, usual.metadata)
        assert refusal(lambda: encode(stub, png, usual.metadata))[1] == "RATE_LIMITED"
        for _ in range(5):
            encode(stub, png, trusted.metadata)


def test_a_caller_is_told_the_rates_of_its_own_key(start_with_keys):
    usual, fast = caller("usual"), caller("fast", pictures_per_s=50, megapixels_per_s=8, burst_s=2)
    running = start_with_keys(usual, fast, rate_limit_pictures_per_s=4)
    told = []
    with stubs(running) as stub:
        for one in (usual, fast):
            info = stub.models.GetServerInfo(
                model_service_pb2.GetServerInfoRequest(), metadata=one.metadata, timeout=10
            )
            limits = info.limits
            told.append(
                (limits.max_pictures_per_s, limits.max_megapixels_per_s, limits.rate_limit_burst.seconds)
            )
    assert told == [(4, 0, 5), (50, 8, 2)]


def test_a_reload_refills_no_bucket_whose_limits_stay(start_with_keys, keys_file, png):
    slow = caller("slow", pictures_per_s=0.01, burst_s=100)
    running = start_with_keys(slow)
    with stubs(running) as stub:
        encode(stub, png, slow.metadata)
        write_keys(keys_file, slow, caller("other"))
        running.expect(2, "tessera_auth_keys")
        assert refusal(lambda: encode(stub, png, slow.metadata))[1] == "RATE_LIMITED"


def test_a_key_that_floods_does_not_keep_another_out(start_with_keys, png):
    flood, quiet = caller("flood", pictures_per_s=5, burst_s=1), caller("quiet")
    running = start_with_keys(flood, quiet, max_batch_size=1, max_queue_items=8)
    stop, refused = threading.Event(), []

    def hammer() -> None:
        with stubs(running) as stub:
            while not stop.is_set():
                try:
                    encode(stub, png, flood.metadata)
                except grpc.RpcError as error:
                    refused.append(error.code())

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        running.eventually(lambda: len(refused) > 20)
        with stubs(running) as stub:
            for _ in range(40):
                assert encode(stub, png, quiet.metadata).codestream.data
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    running.expect(len(refused), "tessera_rejected_requests_total", reason="rate_limit")
