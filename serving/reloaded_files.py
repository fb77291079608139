"""A value made from files that may change while we run; a broken change never replaces a good value.

    stat ── same as last time? ── keep
      └── read all, stat again ── moved meanwhile? read again
            └── parse ── good: new value       bad: old value, counted and logged once per change

Knows neither certificates nor keys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

Value = TypeVar("Value")
_Stamp = tuple[tuple[int, int, int], ...]

# Who replaces several files does so within milliseconds; what is torn after three looks is simply broken.
_READS = 3

_log = structlog.get_logger("tessera.security")


class SetupError(Exception):
    """A file that the settings name cannot be used. The text holds no content of the file."""

    reason = "SETUP_INVALID"


class ReloadedFiles(Generic[Value]):
    """The last good value. `refresh` may be called from any thread.

    `parse` gets the content of the files, in order, and raises SetupError. `report` is told of each change:
    True if it was taken.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        parse: Callable[[tuple[bytes, ...]], Value],
        report: Callable[[bool], None],
    ) -> None:
        """Raises SetupError if the files are not good from the start."""
        self._what = what
        self._paths = tuple(paths)
        self._parse = parse
        self._report = report
        self._lock = threading.Lock()
        self._tried, self.value = self._read()
        self._last_failure: tuple[_Stamp | None, str] | None = None

    @property
    def is_current(self) -> bool:
        """False from a change that was no good until the files are good again, be it with the old content."""
        return self._last_failure is None

    def refresh(self, *, retry: bool = False) -> None:
        """Take over files that changed. With `retry`, also look again at those that were no good."""
        with self._lock:
            stamp = self._stamp_or_none()
            if stamp == self._tried and not (retry and self._last_failure):
                return
            try:
                self._tried, value = self._read()
            except SetupError as error:
                self._tried = stamp
                self._note_failure(stamp, str(error))
                return
            self._last_failure = None
            if value != self.value:
                self.value = value
                self._report(True)
                _log.info("reloaded", what=self._what)

    def _note_failure(self, stamp: _Stamp | None, text: str) -> None:
        if (stamp, text) == self._last_failure:
            return
        self._last_failure = (stamp, text)
        self._report(False)
        _log.error("reload failed; what was loaded before stays", what=self._what, text=text)

    def _read(self) -> tuple[_Stamp | None, Value]:
        """The stamp and the value of one moment. Raises SetupError."""
        try:
            for _ in range(_READS):
                before = self._stamp()
                contents = tuple(path.read_bytes() for path in self._paths)
                if self._stamp() == before:
                    break
        except OSError as error:
            raise SetupError(f"cannot read {self._what}: {error}") from error
        return before, self._parsed(contents)

    def _parsed(self, contents: tuple[bytes, ...]) -> Value:
        try:
            return self._parse(contents)
        except SetupError:
            raise
        except Exception as error:  # odd bytes must end neither the watch nor a handshake
            raise SetupError(f"cannot use {self._what}: {type(error).__name__}") from error

    def _stamp_or_none(self) -> _Stamp | None:
        try:
            return self._stamp()
        except OSError:
            return None

    def _stamp(self) -> _Stamp:
        """Changes with every replacement, also of a folder that the path leads through by a link."""
        facts = (path.stat() for path in self._paths)
        return tuple((fact.st_mtime_ns, fact.st_size, fact.st_ino) for fact in facts)
