"""Does the server stay the same over time?

    python -m benchmarks.serving_soak [--minutes 30] [--clients 4]

Mixed load (encode, encode_stream, decode, decode_stream, truncate; JPEG, PNG, WebP and raw pixels of several
sizes; some with deadlines that cannot be met) in a closed loop, and a look at the process every five seconds.
The slope of memory is a straight line through the samples after the warm-up, which is the first third of the
run: allocators and caches fill at first. Threads and descriptors must be the same at the end as after the
warm-up; p99 drift is that of the last third over that of the middle third.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import serving_runs as runs
from benchmarks.report import can_plot, drawing, markdown_table, style_axes
from benchmarks.server_process import ServerProcess, on_core
from benchmarks.server_watch import ProcessSize, process_size
from serving.load.generator import run_load
from serving.load.outcome import Outcome
from serving.load.pictures import FORMATS, LoadPicture, generated
from serving.load.plan import LoadPlan, RpcKind
from serving.load.prepare import prepare
from serving.load.summary import percentiles
from tokenizer.canvas import Size

MAX_SLOPE_MIB = 1.0
MAX_DRIFT = 1.1
SLOPE_SPAN_S = 600.0
SAMPLE_S = 5.0
# Of a few calls beside the patient ones, so that refusals and late ends are part of the mix.
HASTY_DEADLINE_S = 0.05
MIX = {
    RpcKind.ENCODE: 3.0,
    RpcKind.ENCODE_STREAM: 1.0,
    RpcKind.DECODE: 2.0,
    RpcKind.DECODE_STREAM: 0.5,
    RpcKind.TRUNCATE: 2.0,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one time."""

    at_s: float
    size: ProcessSize


def pictures(fake: bool) -> list[LoadPicture]:
    """Small ones in all formats; the fake model needs no large ones to be slow."""
    sizes = [Size(192, 128), Size(120, 200)] if fake else [Size(256, 256), Size(640, 480), Size(500, 333)]
    return generated(sizes, FORMATS)


async def soak(
    server: ServerProcess, sent: list[LoadPicture], clients: int, seconds: float
) -> tuple[list[Sample], list[Outcome]]:
    """Load and samples side by side; the outcomes are those of the patient clients."""
    patient = LoadPlan(server.target, clients=clients, duration_s=seconds, mix=MIX, deadline_s=30.0)
    hasty = LoadPlan(
        server.target, rate_per_s=1.0, duration_s=seconds, mix=MIX, deadline_s=HASTY_DEADLINE_S, seed=1
    )
    requests = await prepare(patient, sent)
    samples: list[Sample] = []

    async def watch() -> None:
        every_s = min(SAMPLE_S, seconds / 20)
        for number in range(int(seconds / every_s)):
            samples.append(Sample(number * every_s, process_size(server.pid)))
            await asyncio.sleep(every_s)

    watching = asyncio.create_task(watch())
    outcomes, _ = await asyncio.gather(run_load(patient, requests), run_load(hasty, requests))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return samples, outcomes


def slope_mib(samples: list[Sample], span_s: float = SLOPE_SPAN_S) -> float:
    """Growth of a straight line through resident memory, in `span_s`."""
    at_s = np.asarray([sample.at_s for sample in samples])
    resident = np.asarray([sample.size.resident_mib for sample in samples])
    return float(np.polyfit(at_s, resident, 1)[0] * span_s)


def p99_ms(outcomes: list[Outcome], start_s: float, end_s: float) -> float:
    """Of the patient calls that began in this time."""
    found = percentiles(o.latency_s for o in outcomes if o.is_ok and start_s <= o.sent_s < end_s)
    return found.p99_ms if found else 0.0


def plot(samples: list[Sample], path: Path) -> None:
    """Memory, and threads and descriptors, over the run."""
    if not can_plot():
        return
    minutes = [sample.at_s / 60 for sample in samples]
    with drawing(path, "Soak", (9, 3.2)) as (memory, counts):
        memory.plot(minutes, [sample.size.resident_mib for sample in samples], color="#0b57b0")
        style_axes(memory, "resident memory", "minute", "MiB")
        counts.plot(minutes, [sample.size.threads for sample in samples], color="#0b57b0", label="threads")
        counts.plot(
            minutes, [sample.size.descriptors for sample in samples], color="#d55e00", label="descriptors"
        )
        counts.legend(fontsize=8, frameon=False)
        style_axes(counts, "threads and descriptors", "minute", "")


def table(samples: list[Sample], outcomes: list[Outcome], seconds: float) -> tuple[str, dict[str, object]]:
    """Figures and verdicts."""
    steady = [sample for sample in samples if sample.at_s >= seconds / 3]
    slope = slope_mib(steady)
    first, last = steady[0].size, steady[-1].size
    middle_p99, late_p99 = (p99_ms(outcomes, i * seconds / 3, (i + 1) * seconds / 3) for i in (1, 2))
    drift = late_p99 / middle_p99 if middle_p99 else 0.0
    failed = sum(not outcome.is_ok and not outcome.is_refused for outcome in outcomes)
    grown = max(0, last.threads - first.threads), max(0, last.descriptors - first.descriptors)
    rows = [
        ["calls answered", str(sum(outcome.is_ok for outcome in outcomes)), "", ""],
        ["patient calls that failed", str(failed), "0", runs.verdict(not failed)],
        ["memory slope, MiB in 10 minutes", f"{slope:.2f}", f"< {MAX_SLOPE_MIB:g}",
         runs.verdict(slope < MAX_SLOPE_MIB)],
        ["resident MiB, after a third → end", f"{first.resident_mib} → {last.resident_mib}", "", ""],
        ["threads", f"{first.threads} → {last.threads}", "constant", runs.verdict(not grown[0])],
        ["descriptors", f"{first.descriptors} → {last.descriptors}", "constant", runs.verdict(not grown[1])],
        ["p99 ms, middle third → last third", f"{middle_p99:.0f} → {late_p99:.0f}", f"< {MAX_DRIFT:g} times",
         runs.verdict(drift < MAX_DRIFT)],
    ]  # fmt: skip
    figures = {"slope_mib_in_10_minutes": slope, "failed": failed, "threads_grown": grown[0],
               "descriptors_grown": grown[1], "p99_drift": drift}  # fmt: skip
    return markdown_table(["", "", "target", ""], rows), figures


def main() -> None:
    """Measure, print, write."""
    arguments = runs.parser(__doc__, runs=1, seconds=30 * 60)
    arguments.add_argument("--minutes", type=float, help="the same as --seconds, 60 times as much")
    arguments.add_argument("--clients", type=int, default=4)
    parsed: argparse.Namespace = runs.parsed(arguments, quick_seconds=15.0)
    if parsed.minutes is not None:
        parsed.seconds = 60 * parsed.minutes
    client_core, server_core = runs.cores()
    with runs.server_of(parsed, core=server_core) as server, on_core(client_core):
        samples, outcomes = asyncio.run(soak(server, pictures(parsed.fake), parsed.clients, parsed.seconds))
    text, figures = table(samples, outcomes, parsed.seconds)
    plot(samples, parsed.results / "serving_soak.png")
    content = figures | {"samples": [[s.at_s, *asdict(s.size).values()] for s in samples]}
    runs.write(parsed, "serving_soak", f"{parsed.seconds / 60:g} minutes of mixed load", [text], content)


if __name__ == "__main__":
    main()
