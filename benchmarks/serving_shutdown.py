"""Does SIGTERM lose work that the server had accepted?

    python -m benchmarks.serving_shutdown [--trials 50]

Each trial starts a server, opens a Health/Watch, sends Poisson arrivals at 70 % of its capacity (open loop)
and sends SIGTERM at a random moment. The server's log says for every RPC how it ended, so that nothing hides:

* lost: an Encode that the server handled in any way but OK or a refusal, or one that it handled with OK and
  of which the caller did not get the answer;
* every call that was not answered OK must have got UNAVAILABLE, or the refusal of a full queue;
* the Watch must hear NOT_SERVING and end; the exit code must be 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import serving_runs as runs
from benchmarks.report import markdown_table
from benchmarks.server_process import ServerProcess, on_core
from serving.load.generator import run_load
from serving.load.outcome import Outcome
from serving.load.pictures import LoadPicture
from serving.load.plan import LoadPlan
from serving.load.prepare import prepare

LOAD_SHARE = 0.7
DRAIN_S = 10
# SIGTERM comes within this time after the load began, and calls go on until well after it.
MOMENTS_S = (0.3, 2.0)
AFTER_S = 2.0
_REFUSALS = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")


@dataclass(frozen=True, slots=True)
class Trial:
    """One server's end."""

    at_s: float
    statuses: dict[str, int]
    lost: int
    wrong: dict[str, int]
    """Statuses of callers other than OK and UNAVAILABLE."""

    exit_code: int
    exit_s: float
    watched: list[str]
    """What the Watch heard."""

    watch_ended: bool


def trial(
    arguments: argparse.Namespace, sent: list[LoadPicture], rate_per_s: float, core: int | None
) -> Trial:
    """Start, load, stop."""
    _, server_core = runs.cores()
    settings = {"log_level": "debug", "drain_timeout_s": DRAIN_S}
    with runs.server_of(arguments, core=server_core, settings=settings) as server, on_core(core):
        at_s = random.uniform(*MOMENTS_S)
        outcomes, exit_s, watched, watch_ended = asyncio.run(_until_exit(server, sent, rate_per_s, at_s))
        handled = _handled(server.log_file)
        exit_code = server.process.returncode
    codes = Counter(outcome.code for outcome in outcomes)
    # The codestreams are not needed, so every Encode in the log is one of the load.
    cut_short = sum(count for code, count in handled.items() if code not in ("OK", *_REFUSALS))
    unanswered = handled["OK"] - codes["OK"]
    return Trial(
        at_s=at_s,
        statuses=dict(Counter(outcome.label for outcome in outcomes)),
        lost=cut_short + max(0, unanswered),
        wrong={code: count for code, count in codes.items() if code not in ("OK", *_REFUSALS)},
        exit_code=exit_code,
        exit_s=exit_s,
        watched=watched,
        watch_ended=watch_ended,
    )


async def _until_exit(
    server: ServerProcess, sent: list[LoadPicture], rate_per_s: float, at_s: float
) -> tuple[list[Outcome], float, list[str], bool]:
    plan = LoadPlan(server.target, rate_per_s=rate_per_s, duration_s=at_s + AFTER_S, deadline_s=DRAIN_S + 5.0)
    requests = await prepare(plan, sent)
    watched: list[str] = []
    watch = asyncio.create_task(_watch(server.target, watched))
    while not watched:
        await asyncio.sleep(0.01)
    load = asyncio.create_task(run_load(plan, requests))
    await asyncio.sleep(at_s)
    signalled_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(server.process.wait, DRAIN_S + 20)
    exit_s = time.monotonic() - signalled_s
    outcomes = await load
    done, _ = await asyncio.wait({watch}, timeout=1.0)
    watch.cancel()
    return outcomes, exit_s, watched, bool(done)


async def _watch(target: str, heard: list[str]) -> None:
    async with grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async for reply in stub.Watch(health_pb2.HealthCheckRequest()):
            heard.append(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def _handled(log_file: Path) -> Counter[str]:
    """Code -> Encode RPCs, from the server's log."""
    codes: Counter[str] = Counter()
    for line in log_file.read_text().splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            if entry.get("event") == "handled" and entry.get("method") == "Encode":
                codes[entry["code"]] += 1
    return codes


def is_clean(found: Trial) -> bool:
    """All that a trial promises."""
    watched_well = found.watched == ["SERVING", "NOT_SERVING"] and found.watch_ended
    return not found.lost and not found.wrong and found.exit_code == 0 and watched_well


def table(found: list[Trial]) -> str:
    """Sums over the trials."""
    statuses: Counter[str] = Counter()
    for one in found:
        statuses.update(one.statuses)
    lost = sum(one.lost for one in found)
    wrong = sum(sum(one.wrong.values()) for one in found)
    bad_exits = sum(one.exit_code != 0 for one in found)
    slowest = max(one.exit_s for one in found)
    deaf = sum(one.watched != ["SERVING", "NOT_SERVING"] or not one.watch_ended for one in found)
    rows = [
        ["trials", str(len(found)), "", ""],
        *([f"calls: {label}", str(count), "", ""] for label, count in statuses.most_common()),
        ["accepted RPCs lost", str(lost), "0", runs.verdict(not lost)],
        ["callers told neither OK nor UNAVAILABLE or full", str(wrong), "0", runs.verdict(not wrong)],
        ["exit codes other than 0", str(bad_exits), "0", runs.verdict(not bad_exits)],
        ["watches that did not hear NOT_SERVING and end", str(deaf), "0", runs.verdict(not deaf)],
        ["from SIGTERM to exit, s", runs.spread([one.exit_s for one in found]), f"< {DRAIN_S + 3}",
         runs.verdict(slowest < DRAIN_S + 3)],
    ]  # fmt: skip
    return markdown_table(["", "", "target", ""], rows)


def main() -> None:
    """Measure, print, write."""
    arguments = runs.parser(__doc__, runs=1, seconds=10)
    arguments.add_argument("--trials", type=int, default=50)
    parsed = runs.parsed(arguments)
    if parsed.quick:
        parsed.trials = min(parsed.trials, 2)
    client_core, server_core = runs.cores()
    sent = runs.pictures(parsed)
    with runs.server_of(parsed, core=server_core) as server:
        peak = runs.capacity_per_s(server, sent, parsed.seconds, client_core)
    found = [trial(parsed, sent, LOAD_SHARE * peak, client_core) for _ in range(parsed.trials)]
    content = {"capacity_per_s": peak, "trials": [asdict(one) for one in found]}
    runs.write(parsed, "serving_shutdown", "SIGTERM under load", [table(found)], content)


if __name__ == "__main__":
    main()
