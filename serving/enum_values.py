"""Numbers that stand for something in the API, and numbers that do not."""

from __future__ import annotations

from collections.abc import Iterable

from serving.status import InvalidRequest


def check_enum(value: int, known: Iterable[int], field: str) -> None:
    """Refuse what this server has no meaning for, instead of guessing. Raises InvalidRequest."""
    if value not in known:
        raise InvalidRequest(f"no such value: {value}", reason="ENUM_UNKNOWN", field=field)
