"""Sizes that client and server must agree on. Plain numbers, so that a client needs no server settings."""

from __future__ import annotations

MIB = 2**20

MAX_IMAGE_SIZE_BYTES = 16 * MIB
# The largest picture file, or a raw tensor of 2365x2365 RGB, and the few fields around it.
MAX_REQUEST_SIZE_BYTES = 17 * MIB
# A decoded picture may be far larger than its stream: PNG of 20 megapixels takes up to 60 MB.
MAX_RESPONSE_SIZE_BYTES = 64 * MIB

# The client pings after this long without traffic; the server must allow it, or it answers with GOAWAY
# `too_many_pings` (its own default allows one ping in five minutes).
CLIENT_KEEPALIVE_S = 30
SERVER_MIN_PING_INTERVAL_S = 20
# The server pings too; a peer that does not answer in this time is gone.
SERVER_KEEPALIVE_S = 60
KEEPALIVE_TIMEOUT_S = 20

ERROR_DOMAIN = "tessera.v1"
REQUEST_ID_KEY = "x-request-id"
# gRFC A6: how long a client should wait before it tries again, in milliseconds.
RETRY_PUSHBACK_KEY = "grpc-retry-pushback-ms"
