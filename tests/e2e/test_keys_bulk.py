"""A bulk stream outlives changes of the keys file: its key is looked up again with each item."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import grpc
import pytest
from bulk_call import BulkCall, encode_item, error_info, reason_of
from key_files import Caller, caller, write_keys
from running_server import Running


@pytest.fixture
def keys_file(tmp_path):
    return tmp_path / "keys.toml"


@contextlib.contextmanager
def open_stream(start_server, keys_file, png: bytes, who: Caller) -> Iterator[tuple[Running, BulkCall]]:
    """A server that knows this caller, and a stream of his that has had one result."""
    write_keys(keys_file, who)
    running = start_server(auth_keys_file=keys_file, security_reload_interval_s=0.05)
    with running.channel() as channel:
        call = BulkCall(channel, metadata=who.metadata)
        call.send(encode_item(1, png))
        assert next(iter(call)).HasField("response")
        yield running, call
        call.close()


def changed(who: Caller, old: str, new: str) -> Caller:
    assert old in who.entry
    return dataclasses.replace(who, entry=who.entry.replace(old, new))


def replace_keys(running: Running, keys_file, *callers: Caller) -> None:
    write_keys(keys_file, *callers)
    running.expect(1, "tessera_auth_keys_reloads_total")


@pytest.mark.parametrize(
    ("old", "new", "reason", "counted"),
    [
        ('name = "slow"', 'name = "slow"\nexpires = 2020-01-01T00:00:00Z', "TOKEN_EXPIRED", "expired"),
        ('"encode", ', "", "SCOPE_MISSING", "scope"),
        (None, None, "TOKEN_INVALID", "invalid"),
    ],
    ids=["expired", "scope lost", "revoked"],
)
def test_a_key_that_is_no_longer_good_ends_its_stream_after_what_was_read(
    start_server, keys_file, png, old, new, reason, counted
):
    slow = caller("slow")
    after = [] if old is None else [changed(slow, old, new)]
    with open_stream(start_server, keys_file, png, slow) as (running, call):
        running.tokenizer.gate.clear()
        call.send(encode_item(2, png))
        running.expect(2, "grpc_server_msg_received_total", grpc_method="EncodeMany")
        replace_keys(running, keys_file, caller("other"), *after)
        call.send(encode_item(3, png))
        running.expect(1, "tessera_auth_failures_total", reason=counted)
        running.tokenizer.gate.set()
        results, error = call.until_it_fails()
    assert [(result.item_id, result.HasField("response")) for result in results] == [(2, True)]
    denied, unknown = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
    assert error.code() is (denied if reason == "SCOPE_MISSING" else unknown)
    assert reason_of(error) == reason


def test_new_limits_of_a_key_hold_for_its_open_stream(start_server, keys_file, png):
    fast = caller("fast")
    with open_stream(start_server, keys_file, png, fast) as (running, call):
        slow = changed(fast, 'name = "fast"', 'name = "fast"\npictures_per_s = 0.01')
        replace_keys(running, keys_file, slow)
        call.send(encode_item(2, png), encode_item(3, png))
        call.close()
        good, refused = call
    assert good.HasField("response")
    assert error_info(refused.error).reason == "RATE_LIMITED"


def test_a_stream_goes_on_when_other_keys_change(start_server, keys_file, png):
    steady = caller("steady")
    with open_stream(start_server, keys_file, png, steady) as (running, call):
        replace_keys(running, keys_file, caller("other"), steady)
        call.send(encode_item(2, png))
        call.close()
        assert [result.HasField("response") for result in call] == [True]
