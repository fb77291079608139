"""How the server's end of each connection behaves: message sizes, streams, pings, age. Opens nothing."""

from __future__ import annotations

from serving import limits
from serving.config import ServingConfig


def channel_options(config: ServingConfig) -> list[tuple[str, int]]:
    """gRPC's own settings; each is named in its `grpc_types.h`."""
    options = [
        ("grpc.max_receive_message_length", config.max_request_size_bytes),
        ("grpc.max_send_message_length", config.max_response_size_bytes),
        ("grpc.max_concurrent_streams", config.max_streams_per_connection),
        # Two servers on one port would share its connections without a word.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        # Who connects and says nothing, or not all of it, is not waited for two minutes, gRPC's own choice.
        ("grpc.server_handshake_timeout_ms", 1000 * limits.HANDSHAKE_TIMEOUT_S),
        # Finds clients that vanished without a word, whose RPCs would otherwise stay for hours.
        ("grpc.keepalive_time_ms", 1000 * limits.SERVER_KEEPALIVE_S),
        ("grpc.keepalive_timeout_ms", 1000 * limits.KEEPALIVE_TIMEOUT_S),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000 * limits.SERVER_MIN_PING_INTERVAL_S),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000 * limits.SERVER_MIN_PING_INTERVAL_S),
    ]
    if config.max_connection_age_s:
        # New RPCs go elsewhere; those in work have all the time they need (a grace would cut bulk streams).
        options.append(("grpc.max_connection_age_ms", int(1000 * config.max_connection_age_s)))
    return options
