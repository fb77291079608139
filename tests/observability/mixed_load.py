"""Every RPC, every kind of end: what a busy server meets within a minute. For tests only."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

RATES = (
    types.RateTarget(),
    types.RateTarget(max_token_count=64),
    types.RateTarget(max_size_bytes=128),
    types.RateTarget(quality=types.QualityTarget(metric=types.QUALITY_METRIC_PSNR_DB, min_value=22.0)),
    types.RateTarget(quality=types.QualityTarget(metric=types.QUALITY_METRIC_PSNR_DB, min_value=90.0)),
)
OUTPUTS = (types.IMAGE_FORMAT_PNG, types.IMAGE_FORMAT_JPEG, types.IMAGE_FORMAT_WEBP, types.IMAGE_FORMAT_RAW)
TIMEOUT_S = 20
# More than the server under test lets in.
BURST = 24


def picture_files() -> list[types.Image]:
    """One small picture in each form a request may have."""
    y, x = np.mgrid[0:96, 0:128]
    pixels = np.stack([x * 2, y * 2, (x + y) % 256], axis=2).astype(np.uint8)
    tensor = types.Tensor(
        data_type=types.DATA_TYPE_UINT8,
        layout=types.TENSOR_LAYOUT_HWC,
        height_px=96,
        width_px=128,
        channel_count=3,
        data=pixels.tobytes(),
    )
    files = (_file(pixels, format) for format in ("PNG", "JPEG", "WEBP"))
    return [types.Image(tensor=tensor), *(types.Image(encoded=file) for file in files)]


def _file(pixels: np.ndarray, format: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=format)
    return out.getvalue()


class MixedLoad:
    """Threads that send until `stop`; errors of calls are part of the load."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials, threads: int = 3) -> None:
        options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.secure_channel(target, credentials, options)
        self._stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(self._channel)
        self._files = picture_files()
        request = pb.EncodeRequest(image=self._files[1], options=pb.EncodeOptions(coding=types.CODING_FIXED))
        self._stream = self._stub.Encode(request, timeout=60, wait_for_ready=True).codestream.data
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(seed,)) for seed in range(threads)]
        self.failure: BaseException | None = None

    def __enter__(self) -> MixedLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def _send(self, seed: int) -> None:
        rng = random.Random(seed)
        kinds = (
            self._encode,
            self._encode_stream,
            self._decode,
            self._decode_stream,
            self._encode_many,
            self._decode_many,
            self._truncate,
            self._send_nonsense,
            self._leave,
            self._run_late,
            self._send_too_much,
            self._probe,
        )
        try:
            while not self._ended.is_set():
                _ignoring_refusals(rng.choice(kinds), rng)
        except BaseException as error:
            self.failure = error
            raise

    def _encode(self, rng: random.Random) -> None:
        image, rate = rng.choice(self._files), rng.choice(RATES)
        self._stub.Encode(pb.EncodeRequest(image=image, rate=rate), timeout=TIMEOUT_S)

    def _encode_stream(self, rng: random.Random) -> None:
        list(
            self._stub.EncodeStream(pb.EncodeStreamRequest(image=rng.choice(self._files)), timeout=TIMEOUT_S)
        )

    def _decode(self, rng: random.Random) -> None:
        self._stub.Decode(self._decode_request(rng), timeout=TIMEOUT_S)

    def _decode_stream(self, rng: random.Random) -> None:
        request = pb.DecodeStreamRequest(request=self._decode_request(rng), preview_token_counts=[8, 16])
        list(self._stub.DecodeStream(request, timeout=TIMEOUT_S))

    def _encode_many(self, rng: random.Random) -> None:
        requests = [pb.EncodeRequest(image=rng.choice(self._files)) for _ in range(3)]
        items = (pb.EncodeManyRequest(item_id=at, request=one) for at, one in enumerate(requests))
        list(self._stub.EncodeMany(items, timeout=TIMEOUT_S))

    def _decode_many(self, rng: random.Random) -> None:
        requests = [self._decode_request(rng), pb.DecodeRequest(codestream=b"no stream")]
        items = (pb.DecodeManyRequest(item_id=at, request=one) for at, one in enumerate(requests))
        list(self._stub.DecodeMany(items, timeout=TIMEOUT_S))

    def _decode_request(self, rng: random.Random) -> pb.DecodeRequest:
        cut = self._stream[: rng.choice((60, 200, len(self._stream)))]
        return pb.DecodeRequest(codestream=cut, output=types.OutputFormat(format=rng.choice(OUTPUTS)))

    def _truncate(self, _rng: random.Random) -> None:
        rate = types.RateTarget(max_size_bytes=64)
        self._stub.Truncate(pb.TruncateRequest(codestream=self._stream, rate=rate), timeout=TIMEOUT_S)

    def _send_nonsense(self, rng: random.Random) -> None:
        if rng.random() < 0.5:
            self._channel.unary_unary("/nobody.v1/Nothing")(b"", timeout=TIMEOUT_S)
        self._stub.Encode(pb.EncodeRequest(image=types.Image(encoded=b"no picture")), timeout=TIMEOUT_S)

    def _leave(self, rng: random.Random) -> None:
        call = self._stub.Encode.future(pb.EncodeRequest(image=rng.choice(self._files)), timeout=TIMEOUT_S)
        time.sleep(rng.uniform(0, 0.05))
        call.cancel()

    def _run_late(self, rng: random.Random) -> None:
        self._stub.Encode(pb.EncodeRequest(image=rng.choice(self._files)), timeout=rng.uniform(0.005, 0.05))

    def _send_too_much(self, rng: random.Random) -> None:
        request = pb.EncodeRequest(image=rng.choice(self._files))
        for call in [self._stub.Encode.future(request, timeout=TIMEOUT_S) for _ in range(BURST)]:
            call.exception()

    def _probe(self, _rng: random.Random) -> None:
        health_pb2_grpc.HealthStub(self._channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)


def _ignoring_refusals(send: Callable[[random.Random], None], rng: random.Random) -> None:
    try:
        send(rng)
    except grpc.RpcError as error:
        # Whatever a client can provoke; a bug of the server must end the test.
        assert error.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), error
