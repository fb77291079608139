"""Do the clients' retries make an overload worse?

    python -m benchmarks.serving_retries [--clients 200] [--seconds 120] [--runs 5]

200 clients with the settings of TokenizerClient, each with a connection and a retry budget of its own, send
Poisson arrivals at five times the server's capacity (open loop). gRPC shares the budget of all channels to
one address, so the server listens on every loopback address and each client has one of its own. Amplification
is the number of Encode RPCs that the server counted over the number of calls that were made: over the whole
run, at whose beginning each client spends the few retries it starts with (so a short run shows more), and
over its second half.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import asdict, dataclass

from benchmarks import serving_runs as runs
from benchmarks.report import markdown_table
from benchmarks.server_process import on_core
from benchmarks.server_watch import scrape
from serving.load.generator import run_load
from serving.load.plan import LoadPlan
from serving.load.prepare import prepare
from serving.load.processes import LoadRun
from serving.load.summary import summarize

FACTOR = 5


@dataclass(frozen=True, slots=True)
class Storm:
    """One run."""

    calls: int
    received: float
    calls_late: int
    received_late: float
    throughput_per_s: float
    capacity_per_s: float

    @property
    def amplification(self) -> float:
        """RPCs for each call."""
        return self.received / self.calls

    @property
    def late_amplification(self) -> float:
        """The same in the second half."""
        return self.received_late / self.calls_late


def measure(arguments: argparse.Namespace, core: int | None) -> Storm:
    """One server and one storm."""
    sent = runs.pictures(arguments)
    _, server_core = runs.cores()
    settings = {"host": "0.0.0.0"}
    with runs.server_of(arguments, core=server_core, settings=settings) as server:
        peak = runs.capacity_per_s(server, sent, arguments.seconds / 4, core)
        plan = LoadPlan(
            server.target,
            rate_per_s=FACTOR * peak,
            duration_s=arguments.seconds,
            deadline_s=10.0,
            retries=True,
        )
        port = server.target.rpartition(":")[2]
        targets = [f"127.0.{1 + i // 250}.{1 + i % 250}:{port}" for i in range(arguments.clients)]

        def received() -> float:
            return scrape(server).sum("grpc_server_started_total", grpc_method="Encode")

        async def storm():
            requests = await prepare(plan, sent)
            before = await asyncio.to_thread(received)
            start_at = time.monotonic()
            load = asyncio.create_task(run_load(plan, requests, start_at=start_at, targets=targets))
            await asyncio.sleep(plan.duration_s / 2)
            middle = await asyncio.to_thread(received)
            outcomes = await load
            return outcomes, before, middle, await asyncio.to_thread(received)

        with on_core(core):
            outcomes, before, middle, after = asyncio.run(storm())
    report = summarize(plan, LoadRun(outcomes, plan.end_s, was_stopped=False))
    late = sum(outcome.sent_s >= plan.duration_s / 2 for outcome in outcomes)
    return Storm(len(outcomes), after - before, late, after - middle, report.throughput_per_s, peak)


def main() -> None:
    """Measure, print, write."""
    arguments = runs.parser(__doc__, runs=5, seconds=120)
    arguments.add_argument("--clients", type=int, default=200)
    parsed = runs.parsed(arguments, quick_seconds=8.0)
    client_core, _ = runs.cores()
    found = [measure(parsed, client_core) for _ in range(parsed.runs)]
    whole = statistics.median(storm.amplification for storm in found)
    late = statistics.median(storm.late_amplification for storm in found)
    rows = [
        ["calls made", runs.spread([storm.calls for storm in found], 0), "", ""],
        ["amplification, whole run", runs.spread([storm.amplification for storm in found], 3),
         "<= 1.1", runs.verdict(whole <= 1.1)],
        ["amplification, second half", runs.spread([storm.late_amplification for storm in found], 3),
         "<= 1.1", runs.verdict(late <= 1.1)],
        ["answered/s", runs.spread([storm.throughput_per_s for storm in found], 1), "", ""],
        ["capacity, encodes/s", runs.spread([storm.capacity_per_s for storm in found], 1), "", ""],
    ]  # fmt: skip
    table = markdown_table(["", "median (least … most)", "target", ""], rows)
    shares = [{"amplification": s.amplification, "late_amplification": s.late_amplification} for s in found]
    storms = [asdict(storm) | share for storm, share in zip(found, shares, strict=True)]
    content = {"clients": parsed.clients, "runs": storms}
    runs.write(parsed, "serving_retries", f"{parsed.clients} clients that retry", [table], content)


if __name__ == "__main__":
    main()
