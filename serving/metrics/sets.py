"""Buckets and closed label sets of the metrics. Knows no Prometheus."""

from __future__ import annotations

from functools import cache

import grpc

# Steps of at most 1.67x up to 1.5 s, so that an interpolated p99 is off by little.
LATENCY_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075,
    0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
STAGE_S = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
BATCH = (1, 2, 4, 8, 16, 32, 64)
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
SIZE_BYTES = (256, 2**10, 2**12, 2**14, 2**16, 2**18, 2**20, 2**22, 2**24, 2**26)
AREA_PX = (4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 50_000_000)
# A bulk stream may be a whole data set.
STREAM_ITEMS = tuple(4**power for power in range(12))
BITS_PER_PIXEL = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 4.0)

OPS = ("encode", "decode")
ENCODING_METHODS = ("Encode", "EncodeStream")
DECODING_METHODS = ("Decode", "DecodeStream")
BULK_METHODS = ("EncodeMany", "DecodeMany")
WORK_METHODS = (*ENCODING_METHODS, *DECODING_METHODS, "Truncate", *BULK_METHODS)
STREAM_METHODS = ("EncodeStream", "DecodeStream")
REJECTIONS = (
    "queue_items",
    "queue_bytes",
    "concurrency",
    "rate_limit",
    "deadline_unmeetable",
    "draining",
    "not_ready",
)
# What sent a batch off: it was full, its oldest picture had waited max_queue_delay_s, the model was free, the
# server drains, or a batch before it failed.
TRIGGERS = ("full", "delay", "idle", "drain", "retry")
PLACES = ("parsing", "queued", "decoding", "executing", "streaming")
STAGES = {
    "encode": ("parse", "image_decode", "queue", "inference", "write"),
    "decode": ("parse", "queue", "inference", "image_encode", "write"),
}
RATE_KINDS = ("all", "tokens", "bytes", "quality")
RATE_RESULTS = ("met", "best_effort", "unreachable")
RELOAD_RESULTS = ("ok", "failed")
UNKNOWN_MODEL = "unknown"
UNKNOWN_RPC = ("unknown", "unknown", "unknown")


@cache
def code_name(code: grpc.StatusCode) -> str:
    """The code as go-grpc-middleware spells it, one L in Canceled included.

    >>> code_name(grpc.StatusCode.INVALID_ARGUMENT), code_name(grpc.StatusCode.OK)
    ('InvalidArgument', 'OK')
    """
    special = {grpc.StatusCode.OK: "OK", grpc.StatusCode.CANCELLED: "Canceled"}
    return special.get(code) or code.name.title().replace("_", "")
