"""tune: measure this machine, then say which settings suit it. Arithmetic is elsewhere."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from serving.cli import flags
from serving.cli.files import write_output
from serving.cli.report import OutputError
from serving.cpu import available_cpu_count

if TYPE_CHECKING:
    from serving.tune import Machine
    from serving.tuning_advice import Advice

_WINDOW_S, _QUICK_WINDOW_S, _ROUNDS = 0.4, 0.1, 5


def tune(
    model: flags.Model = "default",
    slo_ms: Annotated[
        float, typer.Option(min=1, help="Longest time a picture may wait; bounds the queue.")
    ] = 1000.0,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter windows, less certain.")] = False,
    profile: Annotated[
        str, typer.Option(help="What --out is written for: latency or throughput.")
    ] = "throughput",
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="PATH", help="Write TESSERA_* lines there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON object.")] = False,
) -> None:
    """Measure this machine and print the settings that suit it. Takes a minute or two of all processors."""
    from serving import tune as measuring
    from serving.tuning_advice import PROFILES, advise, best_model

    if profile not in PROFILES:
        raise typer.BadParameter(f"must be one of {', '.join(PROFILES)}", param_hint="--profile")
    models, processors = measuring.siblings(model), available_cpu_count()
    with _progress() as bar:
        task = bar.add_task("", total=measuring.count_steps(models, processors, _ROUNDS))
        machine = measuring.measure(
            models,
            processors,
            window_s=_QUICK_WINDOW_S if quick else _WINDOW_S,
            rounds=_ROUNDS,
            on_step=lambda: bar.advance(task),
        )
    chosen = best_model(machine, models)
    advice = [advise(machine, chosen, name, slo_ms / 1000) for name in PROFILES]
    if as_json:
        print(json.dumps(_facts(machine, advice)))
    else:
        _print_all(machine, advice)
    if out is not None:
        _write(out, next(one for one in advice if one.profile == profile))


def _write(out: str, advice: Advice) -> None:
    text = "\n".join((f"# tessera tune, profile {advice.profile}", *advice.env_lines())) + "\n"
    try:
        write_output(out, text.encode())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror or error}") from error


def _facts(machine: Machine, advice: list[Advice]) -> dict[str, object]:
    speeds = [asdict(way) | asdict(speed) for way, speed in machine.speeds.items()]
    return {
        "processors": machine.processors,
        "speeds": speeds,
        "profiles": {one.profile: asdict(one) for one in advice},
    }


def _print_all(machine: Machine, advice: list[Advice]) -> None:
    print_speeds(machine)
    for one in advice:
        print(f"\nprofile {one.profile}: {_promise(one)}")
        for line in one.env_lines():
            print(line)


def print_speeds(machine: Machine) -> None:
    """The table on stdout; what is no terminal gets all of it, however wide."""
    table, console = _speeds_table(machine), Console()
    if not console.is_terminal:
        unbounded = console.options.update(max_width=sys.maxsize)
        console = Console(width=Measurement.get(console, unbounded, table).maximum)
    console.print(table)


def _promise(advice: Advice) -> str:
    rates = ", ".join(f"{op} {rate:.0f}/s" for op, rate in advice.pictures_per_s.items())
    waits = ", ".join(
        f"{op} p50 {advice.p50_ms[op]:.1f} p99 {advice.p99_ms[op]:.1f} ms" for op in advice.p50_ms
    )
    return f"{rates}; one client: {waits}; at most about {advice.memory_bytes / 2**20:.0f} MiB"


def _speeds_table(machine: Machine) -> Table:
    title = f"{machine.processors} processors, medians of interleaved rounds"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for name in ("work", "model"):
        table.add_column(name, no_wrap=True)
    for name in ("threads", "instances", "batch", "images/s", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for way, speed in machine.speeds.items():
        numbers = (way.threads, way.instances, way.batch_size)
        measured = (f"{speed.pictures_per_s:.1f}", f"{speed.p50_ms:.1f}", f"{speed.p99_ms:.1f}")
        table.add_row(way.op, Path(way.model).name, *map(str, numbers), *measured)
    return table


def _progress() -> Progress:
    return Progress(
        TextColumn("measuring"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
