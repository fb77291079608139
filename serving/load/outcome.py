"""What became of one call of a load, or of one item of a bulk stream. It travels between processes."""

from __future__ import annotations

from dataclasses import dataclass

from serving.load.plan import RpcKind

OK = "OK"
# The server says that it is full or about to stop, without having worked.
_REFUSALS = frozenset({"RESOURCE_EXHAUSTED", "UNAVAILABLE"})
_REFUSAL_REASON = "DEADLINE_UNMEETABLE"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times in seconds from the start of the run."""

    kind: RpcKind
    due_s: float
    """When the call should have been sent; in a closed loop, when it was. An item of a bulk stream is
    due when the stream has room for it, less what the stream itself was late."""

    sent_s: float
    ended_s: float
    code: str
    reason: str = ""
    """ErrorInfo.reason; empty for OK, and where gRPC itself made the status."""

    message: str = ""
    """Status message of a failed call."""

    first_s: float | None = None
    """First message of a stream."""

    @property
    def latency_s(self) -> float:
        """From when the call was due, so that the generator's own lateness counts against the server too."""
        return self.ended_s - self.due_s

    @property
    def is_ok(self) -> bool:
        """Answered in full."""
        return self.code == OK

    @property
    def is_refused(self) -> bool:
        """Turned away by the server itself, before any work."""
        return self.reason == _REFUSAL_REASON or (self.code in _REFUSALS and self.reason != "")

    @property
    def label(self) -> str:
        """Code and reason."""
        return f"{self.code} {self.reason}".strip()
