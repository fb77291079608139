"""Who follows every RPC beside the metrics: the access log, and the tracer if there is one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import grpc

from serving.access_log import AccessLog
from serving.config import ServingConfig
from serving.metrics.server import Rpc
from serving.status import Failure
from serving.trace import Follower

# A collector that does not answer must not hold up the end of the process.
_FLUSH_TIMEOUT_S = 3.0


class TracingUnavailable(OSError):
    """Tracing was asked for and cannot be set up."""

    reason = "TRACING_UNAVAILABLE"


class RpcFollower(Follower, Protocol):
    """Follows one RPC to its end."""

    trace_id: str
    """Under which its spans are kept; empty if there are none."""

    def ended(self, code: grpc.StatusCode, seconds: float, failure: Failure | None, /) -> None:
        """The RPC ended, in any way; called once."""


class RpcObserver(Protocol):
    """Begins to follow each RPC; None for one that need not be followed."""

    def __call__(self, rpc: Rpc, request_id: str, metadata: Mapping[str, str], /) -> RpcFollower | None: ...


@dataclass(frozen=True, slots=True)
class Observers:
    """All observers of one server, and how to end them."""

    rpc: tuple[RpcObserver, ...]
    flush: Callable[[], None]

    def stop(self) -> None:
        """Send what was not sent yet, for a bounded time."""
        thread = threading.Thread(target=self.flush, name="tessera-flush", daemon=True)
        thread.start()
        thread.join(_FLUSH_TIMEOUT_S)


def rpc_observers(config: ServingConfig, version: str) -> Observers:
    """What the settings ask for. Raises TracingUnavailable.

    The tracer comes first: the access log shows its ids.
    """
    access_log = AccessLog(config.access_log_sample, config.max_shed_log_lines_per_s)
    if config.tracing == "off":
        return Observers((access_log,), flush=lambda: None)
    try:
        from serving.tracing import Tracing, otlp_provider

        provider = otlp_provider(version)
    except ImportError as error:
        raise TracingUnavailable(
            f"tracing = otlp needs the extra `otel`: pip install 'tessera[otel]' ({error})"
        ) from error
    except ValueError as error:
        raise TracingUnavailable(f"an OTEL_* variable is wrong: {error}") from error
    return Observers((Tracing(provider), access_log), flush=provider.shutdown)
