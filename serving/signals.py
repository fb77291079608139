"""What the process does when it gets a signal: stop, stop at once, reload. Knows no server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import structlog

_log = structlog.get_logger("tessera.server")


def stop_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Set on the first SIGTERM or SIGINT, and on the second."""
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return first, second


async def call_on_hangup(action: Callable[[], Awaitable[None]]) -> None:
    """Run `action` after each SIGHUP, for ever; those that come while it runs cause one more run.

    One that fails is logged: the next signal, which may come after a repair, must be heard.
    """
    hung_up = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    while True:
        await hung_up.wait()
        hung_up.clear()
        try:
            await action()
        except Exception as error:
            _log.error("action after SIGHUP failed", exc_info=error)
