"""The bytes of one request until they are parsed. Knows no protobuf."""

from __future__ import annotations


class Received:
    """Gives its bytes up to whoever parses them.

    As a plain argument they would stay with every caller until the reply is out, beside the message that they
    were parsed to: the same picture of up to 16 MiB twice, for as long as it waits.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.size_bytes = len(raw)

    def take(self) -> bytes:
        """The bytes; empty from now on."""
        raw, self._raw = self._raw, b""
        return raw
