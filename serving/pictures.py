"""Picture files to pixels and back, in a few threads beside the event loop. Knows no tokens, no RPCs.

Decoding in processes of their own is `isolated_pictures`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import TypeVar

from PIL import Image

from serving.commands import OutputForm, Picture, PictureFormat, Pixels
from tokenizer.canvas import Size
from tokenizer.images import SERVICE_FORMATS, ImageLimits, read_image, write_image

Result = TypeVar("Result")


class PicturePool:
    """Pillow releases the interpreter lock while it decodes, so threads are enough."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="tessera-pictures")

    async def read(self, file: bytes, limits: ImageLimits) -> Pixels:
        """Pixels of a picture file. Raises ImageError."""
        return await self.run(partial(self._decode, file, limits))

    async def write(self, pixels: Pixels, form: OutputForm) -> Picture:
        """Pixels as bytes in the form that was asked for."""
        data = await self.run(partial(_write, pixels, form))
        return Picture(data, form, Size(pixels.shape[1], pixels.shape[0]))

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run this in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _decode(self, file: bytes, limits: ImageLimits) -> Pixels:
        return read_image(file, limits=limits, formats=SERVICE_FORMATS)

    def stop(self) -> None:
        """Let running work end, forget what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _write(pixels: Pixels, form: OutputForm) -> bytes:
    if form.format is PictureFormat.RAW:
        return pixels.tobytes()
    if form.lossless:
        out = BytesIO()
        Image.fromarray(pixels).save(out, format="webp", lossless=True)
        return out.getvalue()
    return write_image(pixels, form.format.value, form.quality)
