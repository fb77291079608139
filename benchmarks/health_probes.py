"""Probes a server until SIGTERM: gRPC Health.Check, /livez and /readyz, each within one second.

    python -m benchmarks.health_probes TARGET METRICS_PORT INTERVAL_S

Prints a line when it begins, and in the end how long each probe took, and each failure, as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

# The default of Kubernetes' probes.
TIMEOUT_S = 1.0


def probes(channel: grpc.Channel, metrics_port: int) -> dict[str, Callable[[], bool]]:
    """Name -> a check that is True if the server is well."""
    health = health_pb2_grpc.HealthStub(channel)

    def check() -> bool:
        reply = health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def http(path: str) -> bool:
        url = f"http://127.0.0.1:{metrics_port}{path}"
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply:
            return bool(reply.status == 200)

    return {"grpc": check, "livez": lambda: http("/livez"), "readyz": lambda: http("/readyz")}


def main() -> None:
    """Probe until told to stop."""
    target, metrics_port, interval_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    seconds: dict[str, list[float]] = {}
    failures: list[str] = []
    with grpc.insecure_channel(target) as channel:
        cases = probes(channel, metrics_port)
        print("probing", flush=True)
        while not stop.wait(interval_s):
            for name, probe in cases.items():
                started_s = time.monotonic()
                try:
                    if not probe():
                        failures.append(f"{name}: not serving")
                except (grpc.RpcError, OSError) as error:
                    failures.append(f"{name}: {error}")
                seconds.setdefault(name, []).append(round(time.monotonic() - started_s, 4))
    print(json.dumps({"seconds": seconds, "failures": failures}))


if __name__ == "__main__":
    main()
