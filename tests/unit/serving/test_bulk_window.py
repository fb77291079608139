"""The window of one bulk stream, and how an item is split from its request."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from serving.bulk import split_item
from serving.received import Received
from serving.status import InvalidRequest
from serving.window import Item, Window
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import types_pb2 as types


def item(size_bytes: int = 1) -> Item:
    return Item(0, Received(bytes(size_bytes)), size_bytes)


async def has_room(window: Window) -> bool:
    task = asyncio.create_task(window.wait_for_room())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    return done


async def test_room_is_for_so_many_items():
    window = Window(max_items=2, max_size_bytes=100)
    first, second = item(), item()
    window.add(first)
    assert await has_room(window)
    window.add(second)
    assert not await has_room(window)
    window.settle(first, 1)
    assert not await has_room(window), "a result that is not written holds its place"
    window.remove(first)
    assert await has_room(window)


async def test_room_is_for_so_many_bytes_of_requests_and_results():
    window = Window(max_items=9, max_size_bytes=100)
    large = item(100)
    window.add(large)
    assert not await has_room(window)
    window.settle(large, 5)
    assert await has_room(window)
    small = item(1)
    window.add(small)
    window.settle(small, 500)
    assert not await has_room(window)
    window.remove(large)
    window.remove(small)
    assert await has_room(window) and len(window) == 0


async def test_whoever_waits_for_room_is_woken():
    window = Window(max_items=1, max_size_bytes=100)
    held = item()
    window.add(held)
    assert window.empty_s == 0
    waiting = asyncio.create_task(window.wait_for_room())
    await asyncio.sleep(0)
    window.remove(held)
    await asyncio.wait_for(waiting, 1)


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.builds(pb.EncodeRequest, model=st.text(), image=st.builds(types.Image, encoded=st.binary())),
)
def test_an_item_is_split_as_protobuf_would_read_it(item_id, request):
    raw = pb.EncodeManyRequest(item_id=item_id, request=request).SerializeToString()
    assert split_item(raw) == (item_id, request.SerializeToString())


@given(st.binary(max_size=60))
def test_any_bytes_are_the_item_that_protobuf_reads_in_them(raw):
    """But for groups, which no proto3 message has and the split refuses."""
    whole = pb.DecodeManyRequest()
    try:
        whole.ParseFromString(raw)
    except DecodeError:
        with contextlib.suppress(InvalidRequest):
            split_item(raw)
        return
    try:
        item_id, request = split_item(raw)
    except InvalidRequest:
        assert any(byte & 7 in (3, 4) for byte in raw)
        return
    assert item_id == whole.item_id
    assert pb.DecodeRequest.FromString(request) == whole.request


def test_a_message_of_countless_fields_is_refused_at_once():
    with pytest.raises(InvalidRequest, match="at most 64 fields"):
        split_item(b"\x18\x00" * 2_000_000)


async def test_results_that_nobody_reads_keep_all_but_the_oldest_item_from_starting():
    window = Window(max_items=9, max_size_bytes=10)
    first, second, third = item(), item(), item()
    for one in (first, second, third):
        window.add(one)
    await window.wait_to_start(second)
    window.settle(second, 10)
    starting = asyncio.create_task(window.wait_to_start(third))
    await window.wait_to_start(first)
    assert not starting.done()
    window.settle(first, 1)
    window.remove(first)
    window.remove(second)
    await asyncio.wait_for(starting, 1)


def test_a_request_in_two_parts_is_joined():
    """Serialized messages that follow each other are one merged message, by protobuf's own rule."""
    first = pb.EncodeManyRequest(item_id=3, request=pb.EncodeRequest(model="a"))
    second = pb.EncodeManyRequest(request=pb.EncodeRequest(model="b", image=types.Image(encoded=b"x")))
    raw = first.SerializeToString() + second.SerializeToString()
    item_id, request = split_item(raw)
    assert item_id == 3
    assert pb.EncodeRequest.FromString(request) == pb.EncodeManyRequest.FromString(raw).request
