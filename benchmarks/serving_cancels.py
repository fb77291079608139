"""Calls that leave at every stage, and what is left of them in the server. For serving_deadlines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from benchmarks.report import markdown_table
from benchmarks.server_process import ServerProcess, running_fake_server
from benchmarks.server_watch import ProcessSize, process_size, scrape, wait_until
from benchmarks.serving_runs import FAKE_SECONDS_PER_PICTURE, FAKE_SIZE, verdict
from serving.load.pictures import generated
from serving.load.plan import RpcKind
from serving.load.requests import build, paths
from tokenizer.canvas import Size

# Takes some 100 ms to decode, and half a megabyte that is parsed in a thread.
_LARGE = Size(1600, 1200)
_CONCURRENT = 20
_GAUGES = ("tessera_in_flight_requests", "tessera_queue_items", "tessera_queue_bytes")
_STAGES = ("parsing", "decoding", "queued", "executing", "streaming")


@dataclass(frozen=True, slots=True)
class CancelReport:
    """Before and after."""

    calls: int
    found_in: dict[str, float]
    gauges: dict[str, float]
    started: float
    handled: float
    before: ProcessSize
    after: ProcessSize

    @property
    def is_clean(self) -> bool:
        """Nothing is left. Pools had grown to their size in the first round already."""
        return (
            not any(self.gauges.values())
            and self.started == self.handled
            and self.after.threads <= self.before.threads
            and self.after.descriptors <= self.before.descriptors
        )


def cancel_everywhere(count: int) -> CancelReport:
    """A first round that fills pools and caches, then `count` calls that leave, of each kind."""
    settings = {"max_queue_items": 64, "max_batch_size": 1}
    with running_fake_server(FAKE_SECONDS_PER_PICTURE, settings=settings) as server:
        asyncio.run(_leave(server, max(_CONCURRENT, count // 20)))
        _settle(server)
        first, before = scrape(server), process_size(server.pid)
        calls = asyncio.run(_leave(server, count))
        _settle(server)
        last = scrape(server)
        return CancelReport(
            calls=calls,
            found_in={
                stage: last.sum("tessera_abandoned_requests_total", stage=stage)
                - first.sum("tessera_abandoned_requests_total", stage=stage)
                for stage in _STAGES
            },
            gauges={name: last.sum(name) for name in _GAUGES},
            started=last.sum("grpc_server_started_total"),
            handled=last.sum("grpc_server_handled_total"),
            before=before,
            after=process_size(server.pid),
        )


def _settle(server: ServerProcess) -> None:
    """Until nothing is in work and the connections of the last round are closed."""

    def is_quiet() -> bool:
        samples = scrape(server)
        started, handled = (samples.sum(f"grpc_server_{what}_total") for what in ("started", "handled"))
        return started == handled and not any(samples.sum(name) for name in _GAUGES)

    wait_until(is_quiet)
    descriptors = process_size(server.pid).descriptors
    wait_until(lambda: process_size(server.pid).descriptors < descriptors, timeout_s=1.0)


async def _leave(server: ServerProcess, count: int) -> int:
    """`count` calls of each kind, some at a time; how many there were."""
    small, large = generated([FAKE_SIZE]), generated([_LARGE], ("png",))
    (encode,) = build(RpcKind.ENCODE, small, ())
    (encode_large,) = build(RpcKind.ENCODE, large, ())
    (stream,) = build(RpcKind.ENCODE_STREAM, small, ())
    async with grpc.aio.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        unary = channel.unary_unary(paths()[RpcKind.ENCODE])
        streaming = channel.unary_stream(paths()[RpcKind.ENCODE_STREAM])
        # The model takes 20 ms, and up to 20 wait for it: these moments lie in all stages.
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            lambda: _cancel_after(unary(encode_large), random.uniform(0.0, 0.15)),
            lambda: _cancel_after(unary(encode), random.uniform(0.0, 0.05)),
            lambda: _cancel_after(unary(encode), random.uniform(0.0, 0.6)),
            lambda: _cancel_in_stream(streaming(stream)),
        )
        for kind in kinds:
            await _in_parallel(kind, count)
        return len(kinds) * count


async def _in_parallel(call: Callable[[], Awaitable[None]], count: int) -> None:
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(worker() for _ in range(min(_CONCURRENT, count))))


async def _cancel_after(call: Any, seconds: float) -> None:
    await asyncio.wait({asyncio.ensure_future(_ended(call))}, timeout=seconds)
    call.cancel()


async def _ended(call: Any) -> None:
    await call.code()


async def _cancel_in_stream(call: Any) -> None:
    """Read up to a few messages, then go."""
    try:
        for _ in range(random.randint(1, 3)):
            await call.read()
    except grpc.aio.AioRpcError:
        return  # refused, since the queue was full: nothing to leave
    call.cancel()


def cancel_table(found: CancelReport) -> str:
    """What was left."""
    rows = [
        ["calls that left", str(found.calls)],
        *([f"found in stage {stage}", f"{count:.0f}"] for stage, count in found.found_in.items()),
        *([name, f"{value:.0f}"] for name, value in found.gauges.items()),
        ["RPCs started and not handled", f"{found.started - found.handled:.0f}"],
        ["threads, before → after", f"{found.before.threads} → {found.after.threads}"],
        ["descriptors, before → after", f"{found.before.descriptors} → {found.after.descriptors}"],
        ["resident MiB, before → after", f"{found.before.resident_mib} → {found.after.resident_mib}"],
        ["nothing left behind", verdict(found.is_clean)],
    ]
    return markdown_table(["", ""], rows)
