"""How the client's channel behaves: message sizes, pings, retries, load balancing, keys. Opens nothing."""

from __future__ import annotations

import json
from typing import Any

from serving import limits

_BULK_METHODS = ("EncodeMany", "DecodeMany")

# AIP-194 and gRFC A6: a few quick attempts, stopped altogether once a tenth of the calls fail, so that an
# overloaded server is not drowned by its own clients. Where the server says how long to wait, that counts.
SERVICE_CONFIG = {
    "methodConfig": [
        # The client itself resumes bulk streams. gRPC would send all messages again, and can lose one that is
        # being written while an attempt fails: the next answer is then to the wrong item.
        {"name": [{"service": "tessera.v1.TokenizerService", "method": name} for name in _BULK_METHODS]},
        {
            "name": [{"service": "tessera.v1.TokenizerService"}, {"service": "tessera.v1.ModelService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                # CANCELLED: a server's gRPC has no other word for a call that comes in the instant it stops.
                # What the caller itself cancels has ended here, and is not repeated.
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
            },
        },
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    "loadBalancingConfig": [{"round_robin": {}}],
}
# gRPC waits 1 s after the first failed connection and up to 2 min after many; a server that restarts is back
# within seconds, and a bulk job waits for it.
_RECONNECT_MS = (100, 5_000)
# Room for the frame headers and metadata that the retry buffer holds besides the request.
_RETRY_BUFFER_SLACK_BYTES = 2**16


def channel_options(max_request_size_bytes: int, max_response_size_bytes: int) -> list[tuple[str, Any]]:
    """What grpc is told when a channel opens."""
    first_ms, longest_ms = _RECONNECT_MS
    return [
        ("grpc.max_send_message_length", max_request_size_bytes),
        ("grpc.max_receive_message_length", max_response_size_bytes),
        ("grpc.keepalive_time_ms", 1000 * limits.CLIENT_KEEPALIVE_S),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", first_ms),
        ("grpc.max_reconnect_backoff_ms", longest_ms),
        ("grpc.enable_retries", 1),
        # What does not fit is sent once and never again, and the default of 256 KiB holds few photographs.
        ("grpc.per_rpc_retry_buffer_size", max_request_size_bytes + _RETRY_BUFFER_SLACK_BYTES),
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ]
