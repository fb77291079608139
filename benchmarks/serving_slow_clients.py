"""Do clients that are slow, idle or gone cost the others anything?

    python -m benchmarks.serving_slow_clients [--seconds 20] [--runs 5] [--slow 200] [--idle 5000]
        [--resets 10000]

Four patient clients encode in a closed loop: first alone, and then beside

* slow readers: EncodeStream calls of which each reads one message and then nothing;
* half-sent messages: connections that begin an Encode and never send the rest of its message;
* idle connections: open, HTTP/2 settings exchanged, nothing sent;
* resets: EncodeStream calls that are cancelled right after they were sent, again and again.

Their p99 must stay within 1.5 times that of being alone. All clients share one processor, and so wait for one
another, too: the resets make the client process work as hard as the server.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import grpc

from benchmarks import serving_runs as runs
from benchmarks.memory import resident_mib
from benchmarks.report import markdown_table
from benchmarks.server_process import ServerProcess, on_core
from benchmarks.server_watch import process_size, scrape, wait_until
from serving.load.generator import run_load
from serving.load.plan import LoadPlan, RpcKind
from serving.load.prepare import prepare
from serving.load.processes import LoadRun
from serving.load.requests import Requests, paths
from serving.load.summary import summarize

ALONE = "alone"
MAX_SLOWER = 1.5
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS = 4
# gRPC's prefix says that 100,000 bytes follow; a hundred do.
_HALF_MESSAGE = b"\0" + (100_000).to_bytes(4, "big") + bytes(100)
# Streams that are open and not read count as RPCs in work: a few places must be left to the others.
_PLACES_LEFT = 28
_STREAM_DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True)
class Beside:
    """The patient clients beside one kind of bad company."""

    company: str
    p50_ms: float
    p99_ms: float
    answered_per_s: float
    failed: int
    memory_growth_mib: float


def half_message() -> bytes:
    """HTTP/2 frames of an Encode whose message ends too soon."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": paths()[RpcKind.ENCODE],
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    # Literal fields without indexing and without Huffman coding: RFC 7541, 6.2.2.
    block = b"".join(
        b"\0" + b"".join(bytes((len(text),)) + text.encode() for text in field) for field in fields.items()
    )
    return _frame(_HEADERS, _END_HEADERS, 1, block) + _frame(_DATA, 0, 1, _HALF_MESSAGE)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, 4.1."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


async def _patient(server: ServerProcess, requests: Requests, seconds: float, company: str) -> Beside:
    before_mib = resident_mib(server.pid)
    plan = LoadPlan(server.target, clients=4, duration_s=seconds, warm_up_s=0.5, deadline_s=30.0)
    outcomes = await run_load(plan, requests)
    report = summarize(plan, LoadRun(outcomes, plan.end_s, was_stopped=False))
    assert report.ok_latency is not None  # a closed loop always gets something answered
    latency, growth_mib = report.ok_latency, resident_mib(server.pid) - before_mib
    return Beside(
        company, latency.p50_ms, latency.p99_ms, report.throughput_per_s, report.sent - report.ok, growth_mib
    )


@asynccontextmanager
async def slow_readers(server: ServerProcess, requests: Requests, count: int) -> AsyncIterator[None]:
    """Streams of which one message is read."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(server.target, options) as channel:
        method = channel.unary_stream(paths()[RpcKind.ENCODE_STREAM])
        calls = []
        for number in range(count):
            stream = requests[RpcKind.ENCODE_STREAM]
            calls.append(method(stream[number % len(stream)], timeout=_STREAM_DEADLINE_S))
            # As fast as they are served, or the queue would refuse them.
            await calls[-1].read()
        yield
        for call in calls:
            call.cancel()


@asynccontextmanager
async def connections(server: ServerProcess, count: int, then: bytes) -> AsyncIterator[None]:
    """TCP connections that said hello, and then only this."""
    host, _, port = server.target.rpartition(":")
    writers: list[asyncio.StreamWriter] = []
    for _ in range(count):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + then)
        writers.append(writer)
    yield
    for writer in writers:
        writer.transport.abort()


@asynccontextmanager
async def resets(
    server: ServerProcess, requests: Requests, count: int, seconds: float
) -> AsyncIterator[None]:
    """Calls that leave at once, spread over the time."""
    async with grpc.aio.insecure_channel(server.target) as channel:
        method = channel.unary_stream(paths()[RpcKind.ENCODE_STREAM])

        async def storm() -> None:
            for _ in range(count):
                call = method(requests[RpcKind.ENCODE_STREAM][0], timeout=_STREAM_DEADLINE_S)
                try:
                    await asyncio.sleep(seconds / count)
                finally:
                    call.cancel()  # also the last one, or its connection stays with this process

        storming = asyncio.create_task(storm())
        yield
        storming.cancel()
        await asyncio.gather(storming, return_exceptions=True)


async def all_company(
    server: ServerProcess, requests: Requests, arguments: argparse.Namespace
) -> list[Beside]:
    """Alone, and beside each."""
    seconds = arguments.seconds
    found = [await _patient(server, requests, seconds, ALONE)]
    companies = {
        f"{arguments.slow} slow readers": slow_readers(server, requests, arguments.slow),
        f"{arguments.slow} half-sent messages": connections(server, arguments.slow, half_message()),
        f"{arguments.idle} idle connections": connections(server, arguments.idle, b""),
        f"{arguments.resets} resets": resets(server, requests, arguments.resets, seconds),
    }
    for name, company in companies.items():
        async with company:
            found.append(await _patient(server, requests, seconds, name))
        await asyncio.to_thread(_settle, server)
    return found


def _settle(server: ServerProcess) -> None:
    wait_until(lambda: scrape(server).sum("tessera_in_flight_requests") == 0)


def measure(arguments: argparse.Namespace, core: int | None) -> tuple[list[Beside], int]:
    """One server; what its clients met, and how many descriptors it kept."""
    sent = runs.pictures(arguments)
    _, server_core = runs.cores()
    settings = {"max_concurrent_rpcs": arguments.slow + _PLACES_LEFT}
    with runs.server_of(arguments, core=server_core, settings=settings) as server, on_core(core):

        async def both() -> list[Beside]:
            kinds = {RpcKind.ENCODE: 1.0, RpcKind.ENCODE_STREAM: 1.0}
            requests = await prepare(LoadPlan(server.target, clients=1, mix=kinds), sent)
            return await all_company(server, requests, arguments)

        before = process_size(server.pid).descriptors
        found = asyncio.run(both())
        gc.collect()  # cycles of cancelled calls hold their connections open on this side
        wait_until(lambda: process_size(server.pid).descriptors <= before)
        return found, process_size(server.pid).descriptors - before


def table(found: Sequence[list[Beside]], descriptors_left: Sequence[int]) -> str:
    """A row for each company, over the runs."""
    rows = []
    for number, company in enumerate(one.company for one in found[0]):
        these = [run[number] for run in found]
        slower = statistics.median(run[number].p99_ms / run[0].p99_ms for run in found)
        rows.append(
            [
                company,
                runs.spread([one.p50_ms for one in these], 1),
                runs.spread([one.p99_ms for one in these], 1),
                f"{slower:.2f}",
                "" if company == ALONE else runs.verdict(slower <= MAX_SLOWER),
                str(sum(one.failed for one in these)),
                f"{max(one.memory_growth_mib for one in these):.1f}",
            ]
        )
    header = ["beside", "p50, ms", "p99, ms", "p99 / alone", "<= 1.5", "failed", "memory, MiB more"]
    left = f"Descriptors of the server that were still open afterwards: {max(descriptors_left)}."
    return f"{markdown_table(header, rows)}\n\n{left}"


def main() -> None:
    """Measure, print, write."""
    arguments = runs.parser(__doc__, runs=5, seconds=20)
    arguments.add_argument("--slow", type=int, default=200)
    arguments.add_argument("--idle", type=int, default=5000)
    arguments.add_argument("--resets", type=int, default=10_000)
    parsed = runs.parsed(arguments)
    if parsed.quick:
        parsed.slow, parsed.idle, parsed.resets = 40, 200, 300
    client_core, _ = runs.cores()
    results = [measure(parsed, client_core) for _ in range(parsed.runs)]
    found, left = [run for run, _ in results], [left for _, left in results]
    content = {"descriptors_left": left, "runs": [[asdict(one) for one in run] for run in found]}
    runs.write(parsed, "serving_slow_clients", "Beside bad company", [table(found, left)], content)


if __name__ == "__main__":
    main()
