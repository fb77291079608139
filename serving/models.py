"""Which models are in service, under which names, and how one takes the place of another. Knows no RPCs.

load, warm up ──> READY ──(reload, unload)──> DRAINING: its leases end ──> stopped, freed

A request leases its model from when the name is resolved until its reply is out. So a change never takes a
model from under a request, and whoever asks after a change gets the new one. Changes run one after the other,
each to the end of its drain: there is never more than one model beside those in service.

Lives on the event loop, so it needs no locks but the one that keeps changes apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import structlog

from serving.free_memory import give_back
from serving.generation import Generation, ModelState, ModelStatus
from serving.model import ModelRef, ServedModel
from serving.pipeline import Pipeline
from serving.status import (
    Draining,
    ModelConflict,
    ModelLoadFailed,
    ModelNotFound,
    ModelRequired,
    NotReady,
    StatusError,
)
from tokenizer.errors import TokenizerError

Result = TypeVar("Result")

LoadModel = Callable[[str], Awaitable[ServedModel]]
OpenPipeline = Callable[[ServedModel], Pipeline]

_log = structlog.get_logger("tessera.models")


class ModelRegistry:
    """The models of one server. The first is the default."""

    def __init__(self, load: LoadModel, open_pipeline: OpenPipeline, *, drain_timeout_s: float) -> None:
        self._load = load
        self._open = open_pipeline
        self._drain_timeout_s = drain_timeout_s
        self._in_service: tuple[Generation, ...] = ()
        self._draining: list[Generation] = []
        self._loading: list[str] = []
        # For the life of the process: a name and version that once meant one content never mean another.
        self._digests: dict[tuple[str, str], str] = {}
        self._one_at_a_time = asyncio.Lock()
        self._changes: set[asyncio.Task[object]] = set()
        self._closed = False

    # What requests ask -----------------------------------------------------------------------------------

    @property
    def in_service(self) -> tuple[Generation, ...]:
        """All that take requests, the default first. Raises NotReady before the first ones are warm."""
        if not self._in_service:
            raise NotReady("the model is still loading", retry_after_s=1.0)
        return self._in_service

    @contextmanager
    def lease(self, name: str = "", fingerprint: str = "") -> Iterator[Pipeline]:
        """The model that `find` finds, kept until the block ends. Raises what `find` raises."""
        with self.find(name, fingerprint).leased() as pipeline:
            yield pipeline

    def find(self, name: str = "", fingerprint: str = "") -> Generation:
        """The model of this name; among several, the first that made streams of this fingerprint.

        Without a name, the fingerprint alone picks, and without both it is the default. A fingerprint that
        no candidate has picks the first of them: the request then fails for what is wrong with it, a stream
        that does not fit its model. Raises ModelNotFound, NotReady.
        """
        candidates: Sequence[Generation] = self.in_service
        if name:
            candidates = [generation for generation in candidates if generation.answers_to(name)]
        if not candidates:
            served = ", ".join(f"{g.ref.name}@{g.ref.version}" for g in self.in_service)
            facts = {"name": name, "served": served}
            raise ModelNotFound(f"no model {name!r} here", field="model", metadata=facts)
        matching = (generation for generation in candidates if generation.ref.fingerprint == fingerprint)
        return next(matching, candidates[0])

    def check_room(self, method: str, remaining_s: float) -> None:
        """Refuse an RPC that is not read yet, if it would be refused whatever it asks for.

        With several models in service it may ask for one that has room. Raises QueueFull, DeadlineUnmeetable.
        """
        if len(self._in_service) == 1:
            self._in_service[0].pipeline.check_room_unread(method, remaining_s)

    def of_fingerprint(self, fingerprint: str) -> Generation | None:
        """The first model that made streams of this fingerprint; None if no model here did."""
        return next((g for g in self._in_service if g.ref.fingerprint == fingerprint), None)

    def listing(self) -> list[ModelStatus]:
        """Every model in any state: in service with the default first, then draining, then loading."""
        loaded = [
            ModelStatus(g.source, g.state, g.pipeline.model, g.leases, g is self._in_service[0])
            for g in (*self._in_service, *self._draining)
        ]
        return loaded + [ModelStatus(source, ModelState.LOADING) for source in self._loading]

    # What operators ask ----------------------------------------------------------------------------------

    async def start(self, sources: Sequence[str]) -> None:
        """Load the first models; none serves before all are warm. Raises ModelLoadFailed, ModelConflict."""

        async def change() -> None:
            opened: list[Generation] = []
            try:
                for source in sources:
                    model = await self._load_from(source)
                    self._check_is_new(model.ref, source, opened)
                    opened.append(self._put_in_service(model, source))
            except BaseException:
                self._draining.extend(opened)  # so that `stop` finds them
                raise
            self._publish(tuple(opened))

        await self._run(change())

    async def load(self, source: str, *, make_default: bool = False) -> Generation:
        """Add a model, or raise ModelLoadFailed or ModelConflict and change nothing."""

        async def change() -> Generation:
            model = await self._load_from(source)
            if make_default and (served := self._same_content(model.ref)) is not None:
                self._publish((served, *(one for one in self._in_service if one is not served)))
                _log.info("default changed", **_facts(served))
                return served
            self._check_is_new(model.ref, source, self._in_service)
            fresh = self._put_in_service(model, source)
            others = self._in_service
            self._publish((fresh, *others) if make_default else (*others, fresh))
            _log.info("model loaded", **_facts(fresh), default=make_default)
            return fresh

        return await self._run(change())

    def _same_content(self, ref: ModelRef) -> Generation | None:
        """A model in service that is this very one."""
        return next((one for one in self._in_service if one.ref == ref), None)

    async def unload(self, name: str) -> None:
        """Take a model out of service; returns once it is freed. Raises ModelNotFound, ModelRequired."""

        async def change() -> None:
            generation = self.find(name)
            if len(self._in_service) == 1:
                raise ModelRequired("this is the only model in service; load another one first")
            if generation is self._in_service[0]:
                raise ModelRequired("this is the default model; load another one as the default first")
            self._publish(tuple(g for g in self._in_service if g is not generation))
            await self._retire(generation)
            _log.info("model unloaded", **_facts(generation))

        await self._run(change(), frees=True)

    async def reload(self, name: str = "") -> Generation:
        """Load a model again from its source and let the new one take over; returns once the old is freed.

        Raises ModelNotFound, or ModelLoadFailed or ModelConflict: the old one then stays.
        """

        async def change() -> Generation:
            return await self._reload(self.find(name))

        return await self._run(change(), frees=True)

    async def reload_all(self) -> None:
        """Reload each model; one that fails stays as it is, and is in the log."""
        # Their names, and not the models: who holds those keeps them in memory.
        names = [f"{generation.ref.name}@{generation.ref.version}" for generation in self._in_service]
        for name in names:
            try:
                await self.reload(name)
            except StatusError as error:
                _log.error("reload failed", model=name, reason=error.reason, text=str(error))

    async def stop(self) -> None:
        """Stop every model after its batches in work. No change is begun any more."""
        self._closed = True
        for task in self._changes:
            task.cancel()
        await asyncio.gather(*self._changes, return_exceptions=True)
        for generation in (*self._in_service, *self._draining):
            await generation.pipeline.stop()

    def refuse_changes(self) -> None:
        """The server drains: models are no longer ready, and stay as they are."""
        self._closed = True
        self.show_ready(False)

    def show_ready(self, ready: bool) -> None:
        """Whether the metrics say of those in service that they take requests."""
        for generation in self._in_service:
            generation.pipeline.metrics.ready(ready)

    def drain(self) -> None:
        """Nothing new will come: let no picture wait for company."""
        for generation in (*self._in_service, *self._draining):
            generation.pipeline.drain()

    # Steps -----------------------------------------------------------------------------------------------

    async def _run(self, change: Coroutine[None, None, Result], *, frees: bool = False) -> Result:
        """Run a change alone, and to its end even if its caller leaves meanwhile."""

        async def alone() -> Result:
            try:
                async with self._one_at_a_time:
                    self._check_open()  # a drain may have begun while this change waited
                    result = await change
                    if frees:
                        await asyncio.to_thread(give_back)
                    return result
            finally:
                change.close()  # one that was cancelled while it waited for its turn has not begun

        try:
            self._check_open()
        except Draining:
            change.close()
            raise
        task = asyncio.create_task(alone())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    def _check_open(self) -> None:
        if self._closed:
            raise Draining("this server is shutting down", retry_after_s=0.0)

    async def _reload(self, old: Generation) -> Generation:
        metrics = old.pipeline.metrics
        try:
            model = await self._load_from(old.source)
            self._check_may_replace(model.ref, old)
        except StatusError:
            metrics.reloaded("failed")
            raise
        fresh = self._put_in_service(model, old.source)
        self._publish(tuple(fresh if g is old else g for g in self._in_service))
        metrics.reloaded("ok")
        _log.info("model reloaded", **_facts(fresh), old_version=old.ref.version, old_leases=old.leases)
        await self._retire(old)
        return fresh

    async def _load_from(self, source: str) -> ServedModel:
        """A warm model, or ModelLoadFailed with the reason of what went wrong."""
        self._loading.append(source)
        try:
            return await self._load(source)
        except TokenizerError as error:
            raise ModelLoadFailed(str(error), metadata={"cause": error.reason}) from error
        except MemoryError as error:
            message = f"there is not enough memory for {source}"
            raise ModelLoadFailed(message, metadata={"cause": "OUT_OF_MEMORY"}) from error
        except Exception as error:
            # ONNX Runtime has no common base for what it raises for a graph that it cannot run.
            _log.error("model does not load", source=source, exc_info=error)
            message = f"{source} cannot be run: {type(error).__name__}, see the log"
            raise ModelLoadFailed(message, metadata={"cause": "INTERNAL"}) from error
        finally:
            self._loading.remove(source)

    def _check_is_new(self, ref: ModelRef, source: str, others: Sequence[Generation]) -> None:
        self._check_content(ref, source)
        for other in others:
            if (other.ref.name, other.ref.version) == (ref.name, ref.version):
                raise ModelConflict(f"{ref.name}@{ref.version} of {source} is served already")

    def _check_may_replace(self, ref: ModelRef, old: Generation) -> None:
        if ref.name != old.ref.name:
            raise ModelConflict(
                f"{old.source} holds {ref.name} now, not {old.ref.name}; load the one and unload the other"
            )
        self._check_is_new(ref, old.source, [g for g in self._in_service if g is not old])

    def _check_content(self, ref: ModelRef, source: str) -> None:
        """A model's name and version promise its bytes: clients may keep what they got under them."""
        known = self._digests.get((ref.name, ref.version), ref.digest)
        if known != ref.digest:
            raise ModelConflict(
                f"{source} holds other contents as {ref.name}@{ref.version}, which was "
                f"sha256:{known[:12]} and now is sha256:{ref.digest[:12]}; give it another version"
            )

    def _put_in_service(self, model: ServedModel, source: str) -> Generation:
        self._digests[model.ref.name, model.ref.version] = model.ref.digest
        return Generation(source, self._open(model))

    def _publish(self, generations: tuple[Generation, ...]) -> None:
        """From here on requests find these. One assignment: no request sees a half of it."""
        self._in_service = generations
        if not self._closed:
            for generation in generations:
                generation.pipeline.metrics.ready(True)

    async def _retire(self, generation: Generation) -> None:
        """Let the last requests finish, then stop the model and give its memory back."""
        generation.state = ModelState.DRAINING
        self._draining.append(generation)
        generation.pipeline.metrics.ready(False)
        if not await generation.wait_unleased(self._drain_timeout_s):
            _log.warning("model drain timeout", **_facts(generation), leases=generation.leases)
        await generation.pipeline.stop()
        generation.pipeline.metrics.retire()
        self._draining.remove(generation)


def _facts(generation: Generation) -> dict[str, str]:
    ref = generation.ref
    return {
        "model": ref.name,
        "version": ref.version,
        "digest": ref.digest[:12],
        "fingerprint": ref.fingerprint,
        "source": generation.source,
    }
