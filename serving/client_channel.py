"""How the client's channel behaves: message sizes, pings, retries, load balancing. Opens nothing."""

from __future__ import annotations

import json
from typing import Any

from serving import limits

# AIP-194 and gRFC A6: a few quick attempts, stopped altogether once a tenth of the calls fail, so that an
# overloaded server is not drowned by its own clients. Where the server says how long to wait, that counts.
SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "tessera.v1.TokenizerService"}, {"service": "tessera.v1.ModelService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    "loadBalancingConfig": [{"round_robin": {}}],
}


def channel_options(max_request_size_bytes: int, max_response_size_bytes: int) -> list[tuple[str, Any]]:
    """What grpc is told when a channel opens."""
    return [
        ("grpc.max_send_message_length", max_request_size_bytes),
        ("grpc.max_receive_message_length", max_response_size_bytes),
        ("grpc.keepalive_time_ms", 1000 * limits.CLIENT_KEEPALIVE_S),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ]
