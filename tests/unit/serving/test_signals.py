"""SIGHUP: each one is heard, also after one whose action failed."""

from __future__ import annotations

import asyncio
import os
import signal

import structlog

from serving.signals import call_on_hangup


async def test_an_action_that_fails_is_logged_and_the_next_hangup_is_heard() -> None:
    ran: asyncio.Queue[str] = asyncio.Queue()
    outcomes = iter(["fails", "works"])

    async def action() -> None:
        outcome = next(outcomes)
        ran.put_nowait(outcome)
        if outcome == "fails":
            raise OSError("the folder is gone")

    with structlog.testing.capture_logs() as lines:
        following = asyncio.create_task(call_on_hangup(action))
        try:
            for expected in ("fails", "works"):
                await asyncio.sleep(0)  # the task, or what it does after a failure, comes first
                os.kill(os.getpid(), signal.SIGHUP)
                assert await asyncio.wait_for(ran.get(), timeout=10) == expected
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    (line,) = lines
    assert (line["log_level"], str(line["exc_info"])) == ("error", "the folder is gone")
