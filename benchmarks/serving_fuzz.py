"""Hostile bytes against a real server: every answer is a result or a typed refusal, and the server stays up.

    python -m benchmarks.serving_fuzz [--messages 20000] [--seed 0] [--model NAME] [--quick]

To every RPC: random bytes, well-formed messages with every field at its limits, damaged PNG, JPEG and WebP
files; streams of both codings cut at every byte and with flipped bits; bombs, each timed from sending to
refusal. Prints and writes `benchmarks/results/serving_fuzz.{md,json}`. Exits 1 at any breach: UNKNOWN,
INTERNAL, a refusal without a reason, an answer that takes longer than 30 s, a server that is not healthy
afterwards, or a bomb that is accepted. A seed and a number give the same messages again.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.progress import track

from benchmarks.command import write_results
from benchmarks.hostile.attack import Case, Verdict, attack
from benchmarks.hostile.cases import Arsenal
from benchmarks.hostile.files import bombs
from benchmarks.memory import resident_mib
from benchmarks.report import RESULTS, environment, environment_line, markdown_table
from benchmarks.server_process import ServerProcess, running_server
from serving.client import ServiceError, TokenizerClient
from tokenizer.budget import TokenBudget

BOMB_RUNS = 5
QUICK_MESSAGES, QUICK_EVERY = 300, 20


@dataclass(frozen=True, slots=True)
class Phase:
    """One kind of attack and what came of it."""

    name: str
    verdict: Verdict
    resident_mib: float
    is_healthy: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a bomb was answered, and after how long: the median of several runs."""

    name: str
    size_bytes: int
    milliseconds: float
    answer: str


@dataclass(frozen=True, slots=True)
class Siege:
    """Everything that was measured."""

    phases: Sequence[Phase]
    refusals: Sequence[Refusal]
    resident_before_mib: float

    @property
    def breaches(self) -> list[str]:
        """Every answer that must not be, in words."""
        found = [
            f"{b.case.label} {b.case.method.path}: {b.answer}"
            for p in self.phases
            for b in p.verdict.breaches
        ]
        found += [f"not healthy after {phase.name}" for phase in self.phases if not phase.is_healthy]
        return found + [f"{bomb.name} was accepted" for bomb in self.refusals if bomb.answer == "accepted"]


def main() -> None:
    """Attack, print, write; exit 1 at a breach."""
    arguments = _parse()
    messages = QUICK_MESSAGES if arguments.quick else arguments.messages
    with running_server(arguments.model) as server:
        siege = besiege(
            server, messages=messages, every=QUICK_EVERY if arguments.quick else 1, seed=arguments.seed
        )
    text = page(siege, messages, arguments.seed)
    write_results(RESULTS / "serving_fuzz", text, as_json(siege, messages, arguments.seed))
    if siege.breaches:
        raise SystemExit("\n".join(siege.breaches[:50]))


def besiege(server: ServerProcess, *, messages: int, every: int, seed: int) -> Siege:
    """All attacks on one server; of cut and flipped streams only each `every`-th."""
    with TokenizerClient(server.target) as client:
        arsenal = Arsenal(seed, client.models()[0].fingerprint)
        before_mib = resident_mib(server.pid)
        attacks: dict[str, Iterable[Case]] = {
            "random, damaged and extreme messages": arsenal.mixed(messages),
            "streams cut at every byte": list(arsenal.cut_streams())[::every],
            "streams with flipped bits": list(arsenal.flipped_streams())[::every],
        }
        phases = [_phase(server, client, name, cases) for name, cases in attacks.items()]
        refusals = [_refuse(client, name, file, BOMB_RUNS) for name, file in bombs().items()]
    return Siege(phases, refusals, before_mib)


def _phase(server: ServerProcess, client: TokenizerClient, name: str, cases: Iterable[Case]) -> Phase:
    shown: Iterator[Case] = iter(track(list(cases), description=name))
    verdict = asyncio.run(attack(server.target, shown))
    return Phase(name, verdict, resident_mib(server.pid), client.is_serving())


def _refuse(client: TokenizerClient, name: str, file: bytes, runs: int) -> Refusal:
    times_ms, answer = [], "accepted"
    for _ in range(runs):
        started_s = time.perf_counter()
        try:
            client.encode(file, TokenBudget(max_bytes=64))
        except ServiceError as error:
            answer = error.reason
        times_ms.append(1000 * (time.perf_counter() - started_s))
    return Refusal(name, len(file), statistics.median(times_ms), answer)


def page(siege: Siege, messages: int, seed: int) -> str:
    """The Markdown page."""
    reasons: Counter[str] = sum((phase.verdict.reasons for phase in siege.phases), Counter())
    parts = (
        "# Hostile input",
        f"Written by `python -m benchmarks.serving_fuzz --messages {messages} --seed {seed}`. A breach is "
        "UNKNOWN, INTERNAL, a refusal without a reason, or no answer in 30 s. Before the attack the server "
        f"takes {siege.resident_before_mib:.0f} MiB.",
        _phase_table(siege.phases),
        "Reasons: " + ", ".join(f"{name} {count:,}" for name, count in reasons.most_common()) + ".",
        f"Bombs as picture to Encode, median of {BOMB_RUNS}, seen by the client:",
        _bomb_table(siege.refusals),
        environment_line(),
    )
    return "\n\n".join(parts) + "\n"


def _phase_table(phases: Iterable[Phase]) -> str:
    rows = []
    for phase in phases:
        served = phase.verdict.codes["OK"]
        counts = (phase.verdict.count, served, phase.verdict.count - served, len(phase.verdict.breaches))
        rows.append((phase.name, *(f"{count:,}" for count in counts), f"{phase.resident_mib:.0f}"))
    return markdown_table(("attack", "cases", "served", "refused", "breaches", "MiB after"), rows)


def _bomb_table(refusals: Iterable[Refusal]) -> str:
    rows = [(b.name, f"{b.size_bytes:,}", f"{b.milliseconds:.1f}", b.answer) for b in refusals]
    return markdown_table(("bomb", "bytes", "ms to the answer", "answer"), rows)


def as_json(siege: Siege, messages: int, seed: int) -> dict[str, object]:
    """The raw results."""
    return {
        "messages": messages,
        "seed": seed,
        "environment": environment(),
        "resident_before_mib": round(siege.resident_before_mib, 1),
        "phases": [
            {
                "name": phase.name,
                "codes": dict(phase.verdict.codes),
                "reasons": dict(phase.verdict.reasons),
                "breaches": len(phase.verdict.breaches),
                "resident_mib": round(phase.resident_mib, 1),
                "is_healthy": phase.is_healthy,
            }
            for phase in siege.phases
        ],
        "bombs": [asdict(bomb) for bomb in siege.refusals],
    }


def _parse() -> argparse.Namespace:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--messages", type=int, default=20_000, help="of the first attack")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--model", default="default", help="name or folder of the artifact")
    command.add_argument("--quick", action="store_true", help="a hundredth of it")
    return command.parse_args()


if __name__ == "__main__":
    main()
