"""What of a request stays in memory while its picture waits for the model."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from running_server import as_file

from serving import convert
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

# getrefcount's own argument, and the list below.
NOBODY_ELSE = 2


@pytest.fixture
def parsed(monkeypatch) -> list[object]:
    """The bytes of each message that is parsed, and the message."""
    seen: list[object] = []
    parse = convert.parse_message

    def parse_and_keep(kind, raw):
        seen.append(raw)
        seen.append(parse(kind, raw))
        return seen[-1]

    monkeypatch.setattr(convert, "parse_message", parse_and_keep)
    return seen


@pytest.mark.parametrize("method", ["Encode", "EncodeStream", "EncodeMany"])
def test_while_a_picture_waits_neither_its_message_nor_the_bytes_of_it_are_kept(start_server, parsed, method):
    running = start_server()
    running.tokenizer.gate.clear()
    # Large enough to be parsed in a thread.
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    request = pb.EncodeRequest(image=types.Image(encoded=as_file(noise, "png")))
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        sent = {
            "Encode": lambda: stub.Encode(request, timeout=20),
            "EncodeStream": lambda: list(
                stub.EncodeStream(pb.EncodeStreamRequest(image=request.image), timeout=20)
            ),
            "EncodeMany": lambda: list(
                stub.EncodeMany(iter([pb.EncodeManyRequest(request=request)]), timeout=20)
            ),
        }
        caller = threading.Thread(target=sent[method])
        caller.start()
        running.eventually(lambda: running.tokenizer.calls == [("encode", 1)])
        held = [sys.getrefcount(one) for one in parsed]
        running.tokenizer.gate.set()
        caller.join()
    assert held == [NOBODY_ELSE + 1] * 2  # the loop variable, too
