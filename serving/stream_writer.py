"""StreamWriter: sends the messages of one stream, so that a write that never ends can still be given up."""

from __future__ import annotations

from typing import Any

Context = Any  # grpc.aio.ServicerContext[bytes, Message]


class StreamWriter:
    """Writes to one client; a write waits while the client does not read."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._has_begun = False

    async def write(self, message: Any) -> None:
        """Send a message.

        Headers go out by themselves before the first one. With it, a cancelled write would leave grpc.aio
        believing that they are still to be sent: it would send them again with the status, core would refuse
        both, and the client would never hear how its RPC ended. No earlier either: a client repeats a
        refused RPC only as long as it has no headers.
        """
        if not self._has_begun:
            self._has_begun = True
            await self._context.send_initial_metadata(())
        await self._context.write(message)
