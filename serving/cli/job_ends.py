"""How a job over a data set ends that somebody stops, or whose files fail: a line and an exit code."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from serving.batch.errors import BatchError

_SIGNAL_EXIT = 128
"""By custom, a process that a signal ended exits with 128 and its number."""


class Stopped(KeyboardInterrupt):
    """SIGTERM came. Ends what Ctrl-C ends."""


def resumable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with what is said when Ctrl-C or SIGTERM ends it."""

    @functools.wraps(command)
    def run(*args: object, **kwargs: object) -> None:
        try:
            with _sigterm_raises():
                command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            number = signal.SIGTERM if isinstance(stop, Stopped) else signal.SIGINT
            print(
                "stopped: what is done stays, and the same command goes on from there",
                file=sys.stderr,
            )
            raise typer.Exit(_SIGNAL_EXIT + number) from stop
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise BatchError(f"{place}{error.strerror or error}") from error

    return run


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        # Once: a second one must not break off the end of the worker processes.
        signal.signal(number, signal.SIG_IGN)
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
