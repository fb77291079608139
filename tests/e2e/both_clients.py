"""The asyncio client behind the interface of the sync one, so that one suite tests both. For tests only."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from serving.client import AsyncTokenizerClient

_END = object()


class Blocking:
    """Every call of an AsyncTokenizerClient runs on `loop`; async iterators become generators."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: str, **settings: Any) -> None:
        self._loop = loop

        async def make() -> AsyncTokenizerClient:
            return AsyncTokenizerClient(target, **settings)

        self.client = self.run(make())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self.client)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.client, name)
        if not inspect.ismethod(attribute):
            return attribute

        def call(*arguments: Any, **named: Any) -> Any:
            result = attribute(*arguments, **named)
            return self.run(result) if inspect.iscoroutine(result) else self._iterate(result)

        return call

    def _iterate(self, iterator: AsyncIterator[Any]) -> Iterator[Any]:
        async def take() -> Any:
            return await anext(iterator, _END)

        try:
            while (item := self.run(take())) is not _END:
                yield item
        finally:
            self.run(iterator.aclose())
