"""The cases of an attack on every RPC of ours: a seed and a number give the same ones again."""

from __future__ import annotations

import random
from collections.abc import Iterator

from google.protobuf.descriptor import MethodDescriptor

from benchmarks.hostile.attack import Case, Method
from benchmarks.hostile.files import damaged, pictures, spliced
from benchmarks.hostile.messages import MessageMaker
from tessera.v1 import model_service_pb2, tokenizer_service_pb2
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.sequence import TokenSequence

_FILES = (tokenizer_service_pb2, model_service_pb2)
_MAX_STREAMED_MESSAGES = 4


def all_methods() -> list[MethodDescriptor]:
    """Every RPC of ours."""
    services = (s for file in _FILES for s in file.DESCRIPTOR.services_by_name.values())
    return [method for service in services for method in service.methods]


def as_method(found: MethodDescriptor) -> Method:
    """How to call it."""
    path = f"/{found.containing_service.full_name}/{found.name}"
    return Method(path, found.client_streaming, found.server_streaming)


class Arsenal:
    """Draws cases for a server that has a model with this fingerprint."""

    def __init__(self, seed: int, fingerprint: str) -> None:
        self._draw = random.Random(seed)
        self._files = list(pictures().values())
        self._streams = _streams(self._draw, fingerprint)
        sources = {"encoded": self._picture, "codestream": self._stream}
        self._maker = MessageMaker(self._draw, sources)
        self._methods = all_methods()

    def mixed(self, count: int) -> Iterator[Case]:
        """Random bytes (a fifth), damaged messages (a fifth) and well-formed ones with hostile content."""
        for number in range(count):
            method = self._draw.choice(self._methods)
            streams = method.client_streaming
            messages = self._draw.randrange(_MAX_STREAMED_MESSAGES) if streams else 1
            raw = [self._message(method) for _ in range(messages)]
            yield Case(f"mixed {number}", as_method(method), raw)

    def cut_streams(self) -> Iterator[Case]:
        """Each stream cut at every byte, to each RPC that takes one."""
        for number, stream in enumerate(self._streams):
            for end in range(len(stream) + 1):
                yield from _with_stream(f"stream {number} cut at {end}", stream[:end])

    def flipped_streams(self) -> Iterator[Case]:
        """Each stream with each bit of its header and every 7th after it flipped."""
        for number, stream in enumerate(self._streams):
            bits = [*range(8 * 12), *range(8 * 12, 8 * len(stream), 7)]
            for bit in bits:
                flipped = bytearray(stream)
                flipped[bit // 8] ^= 1 << bit % 8
                yield from _with_stream(f"stream {number}, bit {bit} flipped", bytes(flipped))

    def _message(self, method: MethodDescriptor) -> bytes:
        dice = self._draw.random()
        if dice < 0.2:
            return self._draw.randbytes(self._draw.randrange(300))
        raw = self._maker.make(method.input_type).SerializeToString()
        return damaged(self._draw, raw) if dice < 0.4 else raw

    def _picture(self, draw: random.Random) -> bytes:
        file = draw.choice(self._files)
        dice = draw.random()
        if dice < 0.1:
            return file
        return spliced(draw, file, draw.choice(self._files)) if dice < 0.2 else damaged(draw, file)

    def _stream(self, draw: random.Random) -> bytes:
        stream = draw.choice(self._streams)
        return stream if draw.random() < 0.3 else damaged(draw, stream)


def _streams(draw: random.Random, fingerprint: str) -> list[bytes]:
    """Streams of both codings, with random tokens, short and long, of this model and of another."""
    shapes = [(Size(40, 24), 60, fingerprint), (Size(1, 1), 3, fingerprint), (Size(300, 200), 90, "deadbeef")]
    return [
        TokenSequence(draw.randbytes(count), size, name, coding=coding).to_bytes()
        for size, count, name in shapes
        for coding in Coding
    ]


def _with_stream(label: str, stream: bytes) -> Iterator[Case]:
    pb = tokenizer_service_pb2
    requests = {
        "Decode": pb.DecodeRequest(codestream=stream),
        "DecodeStream": pb.DecodeStreamRequest(
            request=pb.DecodeRequest(codestream=stream), preview_token_counts=[1, 8]
        ),
        "Truncate": pb.TruncateRequest(codestream=stream),
    }
    methods = pb.DESCRIPTOR.services_by_name["TokenizerService"].methods_by_name
    for name, request in requests.items():
        yield Case(f"{name}: {label}", as_method(methods[name]), [request.SerializeToString()])
