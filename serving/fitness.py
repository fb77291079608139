"""Whether this server can still do its work: after a failure that is no caller's fault, it tests itself.

    suspect ──> a picture of ours through a decoder and the models ── works ──> as before
                      ^                         └── failed twice ──> NOT_SERVING
                      └──────────── every few seconds ─────────────┘  until it works again

Counting failures alone would let whoever finds a picture that breaks a decoder or a model take the whole
server out of service with it. Knows no RPCs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from io import BytesIO

import structlog
from PIL import Image

from serving.commands import Pixels
from serving.generation import Generation
from serving.models import ModelRegistry
from serving.pictures import PicturePool
from serving.status import DeadlinePassed, ModelUnloaded
from tokenizer.images import ImageLimits

# Between two tests; also how long a test that was passed is believed, so that one bad picture after the other
# costs a test now and then.
RETEST_S = 5.0
# A server that is full, or a device that hangs, says nothing about whether it could work.
_TEST_TIMEOUT_S = 30.0
_FAILURES_UNTIL_UNFIT = 2

_log = structlog.get_logger("tessera.fitness")

SelfTest = Callable[[], Awaitable[bool | None]]
"""True if the server works, False if it does not, None if that could not be found out."""


class Fitness:
    """Lives on the event loop. `announce` is told of each change, and again while it stays False."""

    def __init__(
        self, test: SelfTest, announce: Callable[[bool], Awaitable[None]], *, retest_s: float
    ) -> None:
        self._test = test
        self._announce = announce
        self._retest_s = retest_s
        self._is_fit = True
        self._is_stopped = False
        self._believed_until = 0.0
        self._testing: asyncio.Task[None] | None = None

    def suspect(self) -> None:
        """Something failed that should not have; see whether it was the picture or this server."""
        if self._is_stopped or self._testing is not None or time.monotonic() < self._believed_until:
            return
        self._testing = asyncio.create_task(self._run(), name="self-test")

    async def stop(self) -> None:
        """No further test, and no further change."""
        self._is_stopped = True
        testing = self._testing
        if testing is not None:
            testing.cancel()
            await asyncio.gather(testing, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._test_until_clear()
        finally:
            self._testing = None

    async def _test_until_clear(self) -> None:
        failures = 0
        while (works := await self._test()) is not True:
            failures += works is False
            if failures >= _FAILURES_UNTIL_UNFIT:
                if self._is_fit:
                    _log.error("unfit", retest_s=self._retest_s)
                self._is_fit = False
                await self._announce(False)
            elif not failures:
                break
            await asyncio.sleep(self._retest_s)
        self._believed_until = time.monotonic() + self._retest_s
        if not self._is_fit:
            self._is_fit = True
            _log.info("fit again")
            await self._announce(True)


async def does_work(pictures: PicturePool, models: ModelRegistry, limits: ImageLimits) -> bool | None:
    """Whether a picture of ours can be decoded, and any model can encode it and decode its tokens."""
    try:
        pixels = await pictures.read(_picture(), limits)
    except Exception as error:
        _log.warning("self-test failed", of="decoder", exc_info=error)
        return False
    verdicts = [await _model_works(generation, pixels) for generation in models.in_service]
    if True in verdicts:
        return True
    return None if None in verdicts else False


async def _model_works(generation: Generation, pixels: Pixels) -> bool | None:
    try:
        async with asyncio.timeout(_TEST_TIMEOUT_S):
            await generation.pipeline.try_out(pixels, _TEST_TIMEOUT_S)
    except (TimeoutError, DeadlinePassed, ModelUnloaded):
        return None
    except Exception as error:
        _log.warning("self-test failed", of=generation.ref.name, exc_info=error)
        return False
    return True


def _picture() -> bytes:
    out = BytesIO()
    Image.linear_gradient("L").save(out, "png")
    return out.getvalue()
