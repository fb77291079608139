"""Does a key that floods its rate limit cost another key anything?

    python -m benchmarks.serving_fairness [--seconds 60] [--runs 5] [--flood 200] [--rate 5]

One server, two keys. The patient one encodes once a second, at equal gaps: first alone, and then while the
other, which may spend `--rate` pictures a second, sends `--flood` a second. Of the patient calls 99.9 % must
be answered, with a p99 of at most twice that of being alone. What the other key may spend is work like any
other, and a patient call may meet a picture of it in the model: so the other is also run at just that rate,
and what the refused calls cost is the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import serving_runs as runs
from benchmarks.report import markdown_table, percent
from benchmarks.server_process import on_core
from serving.api_keys import hash_of, new_key
from serving.client_credentials import Caller
from serving.load.generator import run_load
from serving.load.plan import Arrivals, LoadPlan
from serving.load.prepare import prepare
from serving.load.processes import LoadRun
from serving.load.requests import Requests
from serving.load.summary import LoadReport, summarize

ALONE, ALLOWED, FLOODED = "alone", "beside what the other may", "beside the flood"
MAX_SLOWER = 2.0
MIN_ANSWERED = 0.999
PATIENT_PER_S = 1.0
QUICK_PATIENT_PER_S = 10.0


@dataclass(frozen=True, slots=True)
class Beside:
    """The patient key beside one behaviour of the other."""

    company: str
    sent: int
    answered: int
    p50_ms: float
    p99_ms: float
    other_sent: int = 0
    other_answered: int = 0
    other_refused: int = 0
    refusal_p99_ms: float = 0.0


def keys_file(folder: Path, patient: str, other: str, rate: float) -> Path:
    """A key without a limit, and one with."""
    entries = [("patient", patient, ""), ("other", other, f"pictures_per_s = {rate}\n")]
    path = folder / "keys.toml"
    path.write_text(
        "".join(
            f'[[keys]]\nname = "{name}"\nsha256 = "{hash_of(key)}"\nscopes = ["encode"]\n{limit}'
            for name, key, limit in entries
        )
    )
    return path


def _plan(target: str, rate_per_s: float, seconds: float, arrivals: Arrivals) -> LoadPlan:
    return LoadPlan(
        target, rate_per_s=rate_per_s, duration_s=seconds, warm_up_s=1.0, deadline_s=10.0, arrivals=arrivals
    )


async def _load(plan: LoadPlan, requests: Requests, caller: Caller) -> LoadReport:
    outcomes = await run_load(plan, requests, caller=caller)
    return summarize(plan, LoadRun(outcomes, plan.end_s, was_stopped=False))


def _figures(company: str, patient: LoadReport, other: LoadReport | None = None) -> Beside:
    assert patient.ok_latency is not None  # the patient key has no limit
    alone = Beside(company, patient.sent, patient.ok, patient.ok_latency.p50_ms, patient.ok_latency.p99_ms)
    if other is None:
        return alone
    refusals = other.refusal_latency
    facts = {
        "other_sent": other.sent,
        "other_answered": other.ok,
        "other_refused": other.statuses.get("RESOURCE_EXHAUSTED RATE_LIMITED", 0),
        "refusal_p99_ms": refusals.p99_ms if refusals else 0.0,
    }
    return Beside(**asdict(alone) | facts)


def measure(arguments: argparse.Namespace, core: int | None) -> list[Beside]:
    """One server; what its patient key met."""
    sent = runs.pictures(arguments)
    _, server_core = runs.cores()
    patient, other = new_key(), new_key()
    with tempfile.TemporaryDirectory() as folder:
        file = keys_file(Path(folder), patient, other, arguments.rate)
        settings = {"auth_keys_file": file}
        with runs.server_of(arguments, core=server_core, settings=settings) as server, on_core(core):

            async def all_company() -> list[Beside]:
                per_s = QUICK_PATIENT_PER_S if arguments.quick else PATIENT_PER_S
                calm = _plan(server.target, per_s, arguments.seconds, Arrivals.CONSTANT)
                requests = await prepare(calm, sent, caller=Caller(patient))
                found = [_figures(ALONE, await _load(calm, requests, Caller(patient)))]
                for company, rate in ((ALLOWED, arguments.rate), (FLOODED, arguments.flood)):
                    wild = _plan(server.target, rate, arguments.seconds, Arrivals.POISSON)
                    reports = await asyncio.gather(
                        _load(calm, requests, Caller(patient)), _load(wild, requests, Caller(other))
                    )
                    found.append(_figures(company, *reports))
                return found

            return asyncio.run(all_company())


def table(found: Sequence[list[Beside]]) -> str:
    """A row for each company, over the runs."""
    rows = []
    for number, company in enumerate(one.company for one in found[0]):
        these = [run[number] for run in found]
        slower = statistics.median(run[number].p99_ms / run[0].p99_ms for run in found)
        answered = sum(one.answered for one in these) / sum(one.sent for one in these)
        rows.append(
            [
                company,
                percent(answered),
                runs.verdict(answered >= MIN_ANSWERED),
                runs.spread([one.p50_ms for one in these], 1),
                runs.spread([one.p99_ms for one in these], 1),
                f"{slower:.2f}",
                "" if company == ALONE else runs.verdict(slower <= MAX_SLOWER),
                runs.spread([one.other_sent for one in these], 0),
                runs.spread([one.other_answered for one in these], 0),
                runs.spread([one.refusal_p99_ms for one in these], 1),
            ]
        )
    header = ["the patient key", "answered", ">= 99.9 %", "p50, ms", "p99, ms", "p99 / alone", "<= 2",
              "other's calls", "answered", "refusals' p99, ms"]  # fmt: skip
    return markdown_table(header, rows)


def main() -> None:
    """Measure, print, write."""
    arguments = runs.parser(__doc__, runs=5, seconds=60)
    arguments.add_argument("--flood", type=float, default=200.0, help="calls a second of the other key")
    arguments.add_argument("--rate", type=float, default=5.0, help="pictures a second that it may spend")
    parsed = runs.parsed(arguments)
    client_core, _ = runs.cores()
    found = [measure(parsed, client_core) for _ in range(parsed.runs)]
    content = {
        "flood": parsed.flood,
        "rate": parsed.rate,
        "runs": [[asdict(o) for o in run] for run in found],
    }
    runs.write(parsed, "serving_fairness", "One key floods, another does not", [table(found)], content)


if __name__ == "__main__":
    main()
