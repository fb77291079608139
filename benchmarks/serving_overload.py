"""What happens at two and at five times the load that a server can carry?

    python -m benchmarks.serving_overload [--seconds 60] [--runs 5] [--factors 2 5] [--slo-ms MS]
                                          [--places apart together]

Each run starts a server with the settings as shipped, measures its capacity with eight clients, its latency
at a third of that, and then sends Poisson arrivals at each multiple of the capacity (open loop). "Apart": the
server has one processor for everything it does, and the callers another. "Together": all may use all
processors, so that a server of one model thread can refuse on another processor than that of the model, if
the callers leave it time.

Capacity is measured again after each overload: shared machines are a third faster or slower from one minute
to the next, so an overload is held against the mean of before and after. A process of its own probes health
every second: gRPC Health.Check, /livez, /readyz, one second each. After each overload a light load follows at
once: recovery is the end of the last second whose p99 was above twice that before the overload (a second that
answered nothing counts as slow).

Goodput counts what was answered within the SLO, which callers tell the server as their deadline. Unless one
is given, it is what a full queue takes by itself at the capacity before (the waiting pictures and two
batches), and a quarter more.

Memory is the most that was resident since the server served, against the 256 MiB that it sets aside for
pictures in work.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import serving_runs as runs
from benchmarks.memory import peak_resident_mib, resident_mib
from benchmarks.report import can_plot, drawing, markdown_table, percent, style_axes
from benchmarks.server_process import ServerProcess, on_core
from benchmarks.server_watch import ProbeLog, probing
from serving.config import ServingConfig
from serving.load.generator import run_load
from serving.load.pictures import LoadPicture
from serving.load.plan import LoadPlan
from serving.load.prepare import prepare
from serving.load.processes import LoadRun
from serving.load.summary import LoadReport, summarize

MEMORY_BUDGET_MIB = 256
LIGHT_SHARE = 0.3
RECOVERY_S, QUICK_RECOVERY_S = 10.0, 2.0


@dataclass(frozen=True, slots=True)
class Overload:
    """One factor of one run."""

    place: str
    factor: float
    capacity_per_s: float
    slo_ms: float
    calm_p99_ms: float
    goodput_per_s: float
    throughput_per_s: float
    answered_p99_ms: float
    refusal_p50_ms: float
    refusal_p99_ms: float
    sent_late_p99_ms: float
    unexpected: dict[str, int]
    """Statuses other than OK, a full queue, and a deadline that cannot be met or passed."""

    probes: int
    failed_probes: list[str]
    slowest_probe_ms: float
    recovery_s: float
    memory_growth_mib: float

    @property
    def goodput_share(self) -> float:
        """Of the capacity before and after."""
        return self.goodput_per_s / self.capacity_per_s


def measure(arguments: argparse.Namespace, place: str) -> tuple[list[Overload], dict[float, LoadReport]]:
    """One server through all factors."""
    sent = runs.pictures(arguments)
    core, server_core = runs.cores_at(place)
    found, reports = [], {}
    with runs.server_of(arguments, core=server_core) as server:
        before_mib = resident_mib(server.pid)
        peak = runs.capacity_per_s(server, sent, arguments.seconds / 2, core)
        calm, _ = runs.load(_light(server, peak, arguments.seconds / 2), sent, core=core)
        assert calm.ok_latency is not None  # nothing is refused at a third of the capacity
        for factor in arguments.factors:
            slo_s = arguments.slo_ms / 1000 if arguments.slo_ms else full_queue_s(peak)
            plans = (
                _heavy(server, factor * peak, slo_s, arguments.seconds),
                _light(server, peak, QUICK_RECOVERY_S if arguments.quick else RECOVERY_S),
            )
            with probing(server) as probes, on_core(core):
                heavy, light = asyncio.run(_one_after_the_other(plans, sent))
            growth_mib = peak_resident_mib(server.pid) - before_mib
            peak_after = runs.capacity_per_s(server, sent, arguments.seconds / 2, core)
            around = (peak + peak_after) / 2
            report = summarize(replace(plans[0], slo_s=slo_s), heavy)
            after = summarize(plans[1], light)
            found.append(_figures(place, factor, around, calm, report, after, probes, growth_mib))
            reports[factor], peak = report, peak_after
    return found, reports


def full_queue_s(capacity_per_s: float) -> float:
    """How long the last picture of a full queue waits, and a quarter more."""
    config = ServingConfig()
    return 1.25 * (config.max_queue_items + 2 * config.max_batch_size) / capacity_per_s


def _light(server: ServerProcess, peak: float, seconds: float) -> LoadPlan:
    return LoadPlan(server.target, rate_per_s=LIGHT_SHARE * peak, duration_s=seconds, deadline_s=30.0)


def _heavy(server: ServerProcess, rate_per_s: float, slo_s: float, seconds: float) -> LoadPlan:
    return LoadPlan(
        server.target,
        rate_per_s=rate_per_s,
        duration_s=seconds,
        # The queue fills first: that is no state of overload yet.
        warm_up_s=min(2.0, seconds / 4),
        deadline_s=slo_s,
    )


async def _one_after_the_other(plans: Sequence[LoadPlan], sent: Sequence[LoadPicture]) -> list[LoadRun]:
    """Each load begins when the one before has sent its last call, answered or not."""
    requests = await prepare(plans[0], sent)
    start_at = time.monotonic()
    begins = [start_at + sum(plan.end_s for plan in plans[:number]) for number in range(len(plans))]
    parts = await asyncio.gather(
        *(run_load(plan, requests, start_at=at) for plan, at in zip(plans, begins, strict=True))
    )
    return [
        LoadRun(outcomes, plan.end_s, was_stopped=False) for plan, outcomes in zip(plans, parts, strict=True)
    ]


def _figures(
    place: str,
    factor: float,
    peak: float,
    calm: LoadReport,
    report: LoadReport,
    after: LoadReport,
    probes: ProbeLog,
    growth_mib: float,
) -> Overload:
    assert calm.ok_latency and report.ok_latency and report.generator_lag  # some of all kinds were sent
    refusals = report.refusal_latency
    late = ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED DEADLINE_UNMEETABLE")
    expected = ("OK", "RESOURCE_EXHAUSTED QUEUE_FULL", *late)
    return Overload(
        place=place,
        factor=factor,
        capacity_per_s=peak,
        slo_ms=1000 * (report.plan["slo_s"] or 0.0),
        calm_p99_ms=calm.ok_latency.p99_ms,
        goodput_per_s=report.goodput_per_s or 0.0,
        throughput_per_s=report.throughput_per_s,
        answered_p99_ms=report.ok_latency.p99_ms,
        refusal_p50_ms=refusals.p50_ms if refusals else 0.0,
        refusal_p99_ms=refusals.p99_ms if refusals else 0.0,
        sent_late_p99_ms=report.generator_lag.p99_ms,
        unexpected={label: count for label, count in report.statuses.items() if label not in expected},
        probes=probes.count,
        failed_probes=probes.failures,
        slowest_probe_ms=probes.slowest_ms,
        recovery_s=recovery_s(after, 2 * calm.ok_latency.p99_ms),
        memory_growth_mib=growth_mib,
    )


def recovery_s(after: LoadReport, normal_p99_ms: float) -> float:
    """End of the last slow second of the load that follows an overload."""
    sending = after.seconds[: int(after.observed_s)]
    slow = [s.second for s in sending if s.sent and (s.ok_p99_ms is None or s.ok_p99_ms > normal_p99_ms)]
    return max(slow, default=-1) + 1.0


def table(found: list[Overload]) -> str:
    """Figures of each factor, over the runs."""
    rows = []
    for factor in sorted({one.factor for one in found}):
        these = [one for one in found if one.factor == factor]

        def told(name: str, digits: int = 1, these: list[Overload] = these) -> str:
            return runs.spread([getattr(one, name) for one in these], digits)

        def middle(name: str, these: list[Overload] = these) -> float:
            return statistics.median(getattr(one, name) for one in these)

        failed = sum(len(one.failed_probes) for one in these)
        probes = sum(one.probes for one in these)
        growth = max(one.memory_growth_mib for one in these)
        refused_ms = middle("refusal_p99_ms")
        rows += [
            [f"{factor:g}x", "capacity, encodes/s", told("capacity_per_s"), "", ""],
            ["", "SLO, ms", told("slo_ms", 0), "", ""],
            ["", "goodput, encodes/s", told("goodput_per_s"), "", ""],
            ["", "goodput / capacity", percent(middle("goodput_share")), ">= 90 %",
             runs.verdict(middle("goodput_share") >= 0.9)],
            ["", "answered, p99 ms", told("answered_p99_ms", 0), "", ""],
            ["", "refused, p50 ms", told("refusal_p50_ms"), "", ""],
            ["", "refused, p99 ms", told("refusal_p99_ms"), "< 25", runs.verdict(refused_ms < 25)],
            ["", "sent late by, p99 ms", told("sent_late_p99_ms"), "", ""],
            ["", "failed probes", f"{failed} of {probes}", "0", runs.verdict(not failed)],
            ["", "slowest probe, ms", told("slowest_probe_ms", 0), "", ""],
            ["", "recovery, s", told("recovery_s", 0), "< 5", runs.verdict(middle("recovery_s") < 5)],
            ["", "memory above start, MiB", told("memory_growth_mib", 0), f"< {MEMORY_BUDGET_MIB}",
             runs.verdict(growth < MEMORY_BUDGET_MIB)],
        ]  # fmt: skip
    return markdown_table(["load", "figure", "median (least … most)", "target", ""], rows)


def plot(reports: dict[float, LoadReport], path: Path) -> None:
    """Answers and refusals per second of the last run."""
    if not can_plot():
        return
    with drawing(path, "Overload", (4.6 * len(reports), 3.4), [1] * len(reports)) as axes:
        for axis, (factor, report) in zip(axes, reports.items(), strict=True):
            seconds = report.seconds[: int(report.observed_s)]
            xs = [second.second for second in seconds]
            axis.plot(xs, [second.sent for second in seconds], color="#8c6d1f", label="sent")
            axis.plot(xs, [second.refused for second in seconds], color="#d55e00", label="refused")
            axis.plot(xs, [second.good for second in seconds], color="#0b57b0", label="good")
            style_axes(axis, f"{factor:g} times the capacity", "second", "calls")
            axis.legend(fontsize=8, frameon=False)


def main() -> None:
    """Measure, print, write."""
    arguments = runs.parser(__doc__, runs=5, seconds=60)
    arguments.add_argument("--factors", type=float, nargs="+", default=[2.0, 5.0])
    arguments.add_argument("--slo-ms", type=float, help="else derived from the capacity")
    arguments.add_argument("--places", nargs="+", choices=runs.places(), default=runs.places())
    parsed = runs.parsed(arguments, quick_seconds=6.0)
    found: list[Overload] = []
    for _ in range(parsed.runs):
        # In turns, since the machine changes over the minutes of one place.
        for place in parsed.places:
            figures, reports = measure(parsed, place)
            found += figures
    sections = []
    for place in parsed.places:
        sections += [f"## {place.capitalize()}", table([one for one in found if one.place == place])]
    unexpected = {label for one in found for label in one.unexpected}
    sections.append(f"Statuses but OK, QUEUE_FULL and DEADLINE_EXCEEDED: {', '.join(unexpected) or 'none'}.")
    plot(reports, parsed.results / "serving_overload.png")
    runs.write(parsed, "serving_overload", "Overload", sections, {"runs": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
