"""The standard health service, with the two traps of the stock servicer removed. Knows no models.

It begins with NOT_SERVING (the stock one says SERVING before anything is loaded), and a drain ends every
open Watch (the stock one never does, so that one watching client makes each shutdown take its whole grace).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from grpc_health.v1 import health, health_pb2

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class DrainingHealthServicer(health.aio.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """Health of the server ("") and of each service in `services`."""

    def __init__(self, services: Iterable[str]) -> None:
        super().__init__()
        self._server_status = dict.fromkeys(("", *services), NOT_SERVING)
        self._drained = asyncio.Event()

    async def set_serving(self, is_serving: bool = True) -> None:
        """Everything is ready, or nothing works for now. No effect after `drain`."""
        for service in list(self._server_status):
            await self.set(service, SERVING if is_serving else NOT_SERVING)

    async def drain(self) -> None:
        """NOT_SERVING for good; every Watch gets to send it, and ends."""
        await self.enter_graceful_shutdown()
        self._drained.set()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802
        """As the stock Watch, until the server drains."""
        watch = asyncio.create_task(super().Watch(request, context))
        drained = asyncio.create_task(self._drained.wait())
        try:
            await asyncio.wait({watch, drained}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                await watch
            else:
                await self._let_it_send(watch)
        finally:
            watch.cancel()
            drained.cancel()
            await asyncio.gather(watch, drained, return_exceptions=True)

    async def _let_it_send(self, watch: asyncio.Task[None]) -> None:
        """Time for NOT_SERVING to go out; a client that reads nothing does not hold up the shutdown."""
        await asyncio.wait({watch}, timeout=_LAST_WORD_S)


# The write happens on the next turns of the event loop; this only bounds a client with a full window.
_LAST_WORD_S = 0.2
