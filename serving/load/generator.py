"""Runs a load on one event loop: sends what is due, waits for what was sent, keeps what became of it.

Ending early (`stop`) cancels the calls in work and leaves them out: nothing is known of them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serving.client_credentials import ANYBODY, Caller
from serving.load.arrivals import schedule
from serving.load.connections import Answer, Connections
from serving.load.outcome import Outcome
from serving.load.plan import BULK_KINDS, ITEMS_PER_STREAM, LoadPlan, RpcKind
from serving.load.requests import Requests


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of a load this process sends: `index` of `count`."""

    index: int = 0
    count: int = 1


WHOLE = Share()


async def run_load(
    plan: LoadPlan,
    requests: Requests,
    *,
    stop: asyncio.Event | None = None,
    share: Share = WHOLE,
    start_at: float | None = None,
    targets: Sequence[str] | None = None,
    caller: Caller = ANYBODY,
) -> list[Outcome]:
    """What became of each call. `start_at` (`time.monotonic`) lets several processes begin together;
    `targets` are further addresses of the same server, one for each connection.
    """
    connections = Connections(
        targets or [plan.target] * plan.connections, retries=plan.retries, caller=caller
    )
    run = _Run(plan, requests, connections, share, time.monotonic() if start_at is None else start_at)
    try:
        return await run.until_done_or(stop or asyncio.Event())
    finally:
        await connections.close()


class _Run:
    def __init__(
        self, plan: LoadPlan, requests: Requests, connections: Connections, share: Share, start_at: float
    ) -> None:
        self._plan = plan
        self._requests = requests
        self._connections = connections
        self._share = share
        self._start_at = start_at
        self._kinds, self._weights = zip(*plan.mix.items(), strict=True)
        self._random = random.Random(f"{plan.seed} {share.index}")
        self._outcomes: list[Outcome] = []
        self._calls: set[asyncio.Task[None]] = set()

    async def until_done_or(self, stop: asyncio.Event) -> list[Outcome]:
        """Send all, or what comes before `stop`."""
        sending = asyncio.create_task(self._send_all())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # By hand: cancelling `wait` would leave them running.
            unfinished = {task for task in (sending, stopping, *self._calls) if not task.done()}
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        if sending.done() and not sending.cancelled():
            sending.result()
        return self._outcomes

    async def _send_all(self) -> None:
        await self._sleep_until(0.0)
        if self._plan.rate_per_s is not None:
            await self._open_loop(self._plan.rate_per_s)
            await asyncio.gather(*self._calls)
        else:
            assert self._plan.clients is not None  # the plan has one of the two
            mine = range(self._share.index, self._plan.clients, self._share.count)
            await asyncio.gather(*(self._closed_loop(client) for client in mine))

    async def _open_loop(self, rate_per_s: float) -> None:
        due = schedule(self._plan.arrivals, rate_per_s, self._plan.end_s, self._plan.seed)
        for number, due_s in enumerate(due[self._share.index :: self._share.count].tolist()):
            await self._sleep_until(due_s)
            call = asyncio.create_task(self._call(number, due_s))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _closed_loop(self, client: int) -> None:
        while self._now_s < self._plan.end_s:
            await self._call(client, None)

    async def _call(self, client: int, due_s: float | None) -> None:
        kind: RpcKind = self._random.choices(self._kinds, self._weights)[0]
        sent_s = self._now_s
        late_s = 0.0 if due_s is None else sent_s - due_s
        deadline_s = self._plan.deadline_s
        if kind in BULK_KINDS:
            items = self._items(kind)
            async for sent_at, answer in self._connections.send_items(client, kind, items, deadline_s):
                self._keep(kind, sent_at - self._start_at, late_s, answer)
        else:
            answer = await self._connections.send(client, kind, self._request(kind), deadline_s)
            self._keep(kind, sent_s, late_s, answer)

    def _items(self, kind: RpcKind) -> Iterator[bytes]:
        """Of one stream, which ends with the run; the first is sent in any case, as a call would be."""
        yield self._request(kind)
        for _ in range(1, ITEMS_PER_STREAM):
            if self._now_s >= self._plan.end_s:
                return
            yield self._request(kind)

    def _request(self, kind: RpcKind) -> bytes:
        return self._random.choice(self._requests[kind])

    def _keep(self, kind: RpcKind, sent_s: float, late_s: float, answer: Answer) -> None:
        self._outcomes.append(
            Outcome(
                kind,
                sent_s - late_s,
                sent_s,
                self._now_s,
                answer.code,
                answer.reason,
                answer.message,
                None if answer.first_at is None else answer.first_at - self._start_at,
            )
        )

    @property
    def _now_s(self) -> float:
        return time.monotonic() - self._start_at

    async def _sleep_until(self, due_s: float) -> None:
        wait_s = due_s - self._now_s
        if wait_s > 0:
            await asyncio.sleep(wait_s)
