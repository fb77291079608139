"""A server whose models come from named sources, each load a new fake. For tests only."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fake_tokenizer import FakeTokenizer
from running_server import Running

from serving.config import ServingConfig
from serving.server import build_server
from tokenizer.errors import ArtifactError

SMALL = FakeTokenizer(name="small", version="1", fingerprint="aaaa0001", digest="a1" * 32)
OTHER = FakeTokenizer(name="other", version="7", fingerprint="bbbb0002", digest="b2" * 32)


@dataclass
class Shelf:
    """What each source holds now; every load makes a tokenizer of its own."""

    holds: dict[str, FakeTokenizer | Exception] = field(
        default_factory=lambda: {"small": SMALL, "other": OTHER}
    )
    loaded: list[weakref.ref[FakeTokenizer]] = field(default_factory=list)

    def load(self, source: str, _config: ServingConfig) -> FakeTokenizer:
        if source not in self.holds:
            raise ArtifactError(f"no model {source!r}")
        held = self.holds[source]
        if isinstance(held, Exception):
            raise held
        made = replace(held, gate=type(held.gate)(), calls=[])
        self.loaded.append(weakref.ref(made))
        return made

    @property
    def alive(self) -> list[FakeTokenizer]:
        """Tokenizers that something still refers to, oldest first."""
        return [made for ref in self.loaded if (made := ref()) is not None]


@dataclass
class SeveralModels(Running):
    """A running server and the shelf that it loads from."""

    shelf: Shelf = field(default_factory=Shelf)


ServeModels = Callable[..., SeveralModels]


def start(loop: asyncio.AbstractEventLoop, sources: tuple[str, ...], settings: dict) -> SeveralModels:
    """A server with these models, loaded and serving, with an admin port."""
    shelf = Shelf()

    async def build():
        config = ServingConfig(port=0, metrics_port=0, admin_port=0, models=sources, **settings)
        server = build_server(config, load=shelf.load)
        await server.start()
        await server.load()
        return server

    server = asyncio.run_coroutine_threadsafe(build(), loop).result(30)
    return SeveralModels(server, None, loop, shelf)
