"""Is work done for callers who are gone, and does leaving at any stage leave something behind?

    python -m benchmarks.serving_deadlines [--seconds 20] [--runs 5] [--cancels 1000]

Deadlines: Poisson arrivals at 1.5 times the server's capacity (open loop), all with one deadline, from 1 ms
to 10 s, and once with all of them mixed. Wasted is the share of the model's time whose result nobody read:
`tessera_wasted_compute_seconds_total` over all model time. That is the sum of the inference stage, which
counts a batch once for each of its pictures and so is divided by the mean size of a batch, and what was
wasted. Overshoot is how long after its deadline a caller got DEADLINE_EXCEEDED.

Cancelling: a server whose model sleeps 20 ms a picture, and calls that leave at random moments of each kind:
right away (parsing or decoding a large PNG), while they wait, while the model works, and in the middle of a
stream that is not read. Afterwards, in-flight RPCs, queue and memory in work must be 0, and threads and
descriptors of the server what they were after a first round of the same. Which stage each call was found in
is told by `tessera_abandoned_requests_total`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from dataclasses import asdict, dataclass

from benchmarks import serving_runs as runs
from benchmarks.report import markdown_table, percent
from benchmarks.server_process import ServerProcess, on_core
from benchmarks.server_watch import Samples, scrape, wait_until
from benchmarks.serving_cancels import CancelReport, cancel_everywhere, cancel_table
from serving.load.generator import run_load
from serving.load.outcome import Outcome
from serving.load.pictures import LoadPicture
from serving.load.plan import LoadPlan
from serving.load.prepare import prepare

DEADLINES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
LOAD_FACTOR = 1.5
MIXED = 0


@dataclass(frozen=True, slots=True)
class DeadlineRun:
    """One deadline of one run; deadline 0 is the mix of all."""

    deadline_ms: int
    sent: int
    ok: int
    exceeded: int
    refused: int
    other: dict[str, int]
    compute_s: float
    wasted_s: float
    overshoot_p99_ms: float
    overshoot_max_ms: float


def sweep(arguments: argparse.Namespace, core: int | None) -> list[DeadlineRun]:
    """All deadlines on one server."""
    sent = runs.pictures(arguments)
    _, server_core = runs.cores()
    deadlines = DEADLINES_MS[::3] if arguments.quick else DEADLINES_MS
    with runs.server_of(arguments, core=server_core) as server:
        peak = runs.capacity_per_s(server, sent, arguments.seconds / 2, core)
        rate = LOAD_FACTOR * peak
        found = [_one(server, sent, (ms,), rate, arguments.seconds, core) for ms in deadlines]
        return [*found, _one(server, sent, deadlines, rate, arguments.seconds, core)]


def _one(
    server: ServerProcess,
    sent: list[LoadPicture],
    deadlines_ms: tuple[int, ...],
    rate_per_s: float,
    seconds: float,
    core: int | None,
) -> DeadlineRun:
    before = scrape(server)
    with on_core(core):
        late, outcomes = asyncio.run(_send(server, sent, deadlines_ms, rate_per_s, seconds))
    wait_until(lambda: scrape(server).sum("tessera_in_flight_requests") == 0)
    compute_s, wasted_s = _model_seconds(before, scrape(server))
    labels = [outcome.label for outcome in outcomes]
    refused = sum(outcome.is_refused for outcome in outcomes)
    exceeded = sum(outcome.code == "DEADLINE_EXCEEDED" and not outcome.is_refused for outcome in outcomes)
    known = ("OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")
    return DeadlineRun(
        deadline_ms=deadlines_ms[0] if len(deadlines_ms) == 1 else MIXED,
        sent=len(outcomes),
        ok=labels.count("OK"),
        exceeded=exceeded,
        refused=refused,
        other={label: labels.count(label) for label in set(labels) if label.split()[0] not in known},
        compute_s=compute_s,
        wasted_s=wasted_s,
        overshoot_p99_ms=_percentile(late, 99),
        overshoot_max_ms=max(late, default=0.0),
    )


async def _send(
    server: ServerProcess,
    sent: list[LoadPicture],
    deadlines_ms: tuple[int, ...],
    rate_per_s: float,
    seconds: float,
) -> tuple[list[float], list[Outcome]]:
    """Loads side by side, one for each deadline; milliseconds beyond it, and all outcomes."""
    plans = [
        LoadPlan(
            server.target,
            rate_per_s=rate_per_s / len(deadlines_ms),
            duration_s=seconds,
            deadline_s=ms / 1000,
            seed=number,
        )
        for number, ms in enumerate(deadlines_ms)
    ]
    requests = await prepare(plans[0], sent)
    parts = await asyncio.gather(*(run_load(plan, requests) for plan in plans))
    late = [
        1000 * max(0.0, outcome.ended_s - outcome.sent_s - plan.deadline_s)
        for plan, outcomes in zip(plans, parts, strict=True)
        for outcome in outcomes
        if outcome.code == "DEADLINE_EXCEEDED"
    ]
    return late, [outcome for outcomes in parts for outcome in outcomes]


def _model_seconds(before: Samples, after: Samples) -> tuple[float, float]:
    """All model time between two scrapes, and the wasted part of it."""

    def grown(name: str, **labels: str) -> float:
        return after.sum(name, **labels) - before.sum(name, **labels)

    wasted_s = grown("tessera_wasted_compute_seconds_total")
    batches = grown("tessera_batch_size_count")
    if not batches:
        return 0.0, wasted_s
    mean_batch = grown("tessera_batch_size_sum") / batches
    return grown("tessera_stage_duration_seconds_sum", stage="inference") / mean_batch + wasted_s, wasted_s


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else max(values, default=0.0)


def deadline_table(found: list[list[DeadlineRun]]) -> str:
    """A row for each deadline, over the runs."""
    rows = []
    for these in zip(*found, strict=True):
        shares = [one.wasted_s / one.compute_s if one.compute_s else 0.0 for one in these]
        names = ("sent", "ok", "exceeded", "refused")
        counts = (sum(getattr(one, name) for one in these) for name in names)
        rows.append(
            [
                "mixed" if these[0].deadline_ms == MIXED else f"{these[0].deadline_ms}",
                *map(str, counts),
                percent(statistics.median(shares)),
                f"{statistics.median(one.overshoot_p99_ms for one in these):.1f}",
                f"{max(one.overshoot_max_ms for one in these):.1f}",
            ]
        )
    header = [
        "deadline, ms",
        "sent",
        "OK",
        "exceeded",
        "refused at once",
        "wasted",
        "late p99, ms",
        "late max, ms",
    ]
    return markdown_table(header, rows)


def target_table(found: list[list[DeadlineRun]]) -> str:
    """Waste of each whole sweep, and the latest DEADLINE_EXCEEDED."""
    shares = [sum(one.wasted_s for one in run) / sum(one.compute_s for one in run) for run in found]
    late = [max(one.overshoot_p99_ms for one in run) for run in found]
    other = sorted({label for run in found for one in run for label in one.other})
    rows = [
        ["model time wasted, whole sweep", percent(statistics.median(shares)), "<= 2 %",
         runs.verdict(statistics.median(shares) <= 0.02)],
        ["told after its deadline, p99 of the worst row, ms", runs.spread(late, 1), "<= 50",
         runs.verdict(statistics.median(late) <= 50)],
        ["other statuses", ", ".join(other) or "none", "none", runs.verdict(not other)],
    ]  # fmt: skip
    return markdown_table(["", "median (least … most)", "target", ""], rows)


def main() -> None:
    """Measure, print, write."""
    arguments = runs.parser(__doc__, runs=5, seconds=20)
    arguments.add_argument("--cancels", type=int, default=1000, help="calls that leave, of each kind")
    parsed = runs.parsed(arguments)
    if parsed.quick:
        parsed.cancels = min(parsed.cancels, 60)
    client_core, _ = runs.cores()
    found = [sweep(parsed, client_core) for _ in range(parsed.runs)]
    cancelled: CancelReport = cancel_everywhere(parsed.cancels)
    sections = ["## Deadlines", deadline_table(found), target_table(found)]
    sections += ["## Cancelling", cancel_table(cancelled)]
    content = {
        "deadlines": [[asdict(one) for one in run] for run in found],
        "cancelling": asdict(cancelled),
    }
    runs.write(parsed, "serving_deadlines", "Deadlines and callers who leave", sections, content)


if __name__ == "__main__":
    main()
