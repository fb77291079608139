"""A load from one process or several: one event loop sends some thousand small calls a second, not more.

Ctrl-C, once, ends the run early in every process, and what is known until then is reported.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from serving.client_credentials import ANYBODY, Caller
from serving.load.generator import Share, run_load
from serving.load.outcome import Outcome
from serving.load.plan import InvalidLoad, LoadPlan
from serving.load.requests import Requests

MAX_PROCESSES = 64
# Interpreter and gRPC of the slowest process are up by then.
_START_TOGETHER_S = 3.0


@dataclass(frozen=True, slots=True)
class LoadRun:
    """All outcomes, and how long the run was meant to be observed."""

    outcomes: list[Outcome]
    ended_s: float
    """When sending ended, from the start."""

    was_stopped: bool


def run(plan: LoadPlan, requests: Requests, processes: int = 1, caller: Caller = ANYBODY) -> LoadRun:
    """Send the whole load and wait for its end. Raises InvalidLoad."""
    if not 1 <= processes <= MAX_PROCESSES:
        raise InvalidLoad(f"processes must be 1..{MAX_PROCESSES}, got {processes}")
    if plan.clients is not None and processes > plan.clients:
        raise InvalidLoad(f"{processes} processes are more than the {plan.clients} clients")
    if processes == 1:
        start_at = time.monotonic()
        outcomes, was_stopped = asyncio.run(_run_share(plan, requests, caller, Share(), start_at))
    else:
        start_at = time.monotonic() + _START_TOGETHER_S
        outcomes, was_stopped = _run_in_processes(plan, requests, caller, processes, start_at)
    ended_s = min(time.monotonic() - start_at, plan.end_s) if was_stopped else plan.end_s
    return LoadRun(sorted(outcomes, key=lambda outcome: outcome.due_s), max(0.0, ended_s), was_stopped)


async def _run_share(
    plan: LoadPlan, requests: Requests, caller: Caller, share: Share, start_at: float
) -> tuple[list[Outcome], bool]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    try:
        outcomes = await run_load(plan, requests, stop=stop, share=share, start_at=start_at, caller=caller)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return outcomes, stop.is_set()


def _run_in_processes(
    plan: LoadPlan, requests: Requests, caller: Caller, count: int, start_at: float
) -> tuple[list[Outcome], bool]:
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    workers: list[Any] = []
    # A worker must not die of a Ctrl-C that comes before it listens for one: it inherits the ignoring.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for index in range(count):
            receiver, sender = context.Pipe(duplex=False)
            worker = context.Process(
                target=_work,
                args=(sender, plan, requests, caller, Share(index, count), start_at),
                daemon=True,
            )
            worker.start()
            sender.close()
            pipes.append(receiver)
            workers.append(worker)
        with _passing_on_interrupts([worker.pid for worker in workers]):
            parts = [_receive(pipe) for pipe in pipes]
    finally:
        signal.signal(signal.SIGINT, before)
        for worker in workers:
            worker.join()
    return [outcome for outcomes, _ in parts for outcome in outcomes], any(stopped for _, stopped in parts)


def _work(
    sender: Connection, plan: LoadPlan, requests: Requests, caller: Caller, share: Share, start_at: float
) -> None:
    sender.send(asyncio.run(_run_share(plan, requests, caller, share, start_at)))
    sender.close()


def _receive(pipe: Connection) -> tuple[list[Outcome], bool]:
    try:
        part: tuple[list[Outcome], bool] = pipe.recv()
    except EOFError:
        raise RuntimeError("a process of the load generator died") from None
    return part


@contextmanager
def _passing_on_interrupts(pids: Sequence[int]) -> Iterator[None]:
    def pass_on(*_: object) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
