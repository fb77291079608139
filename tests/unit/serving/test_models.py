"""ModelRegistry by itself: names, leases, and how models come, change and go. The models are fakes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from serving.generation import ModelState
from serving.metrics.server import Metrics
from serving.model import ModelRef
from serving.models import ModelRegistry
from serving.status import (
    Draining,
    ModelConflict,
    ModelLoadFailed,
    ModelNotFound,
    ModelRequired,
    NotReady,
    StatusError,
)
from tokenizer.errors import ArtifactError

SMALL = ModelRef("small", "1", "aaaaaaaa", "ab12cd34" * 8)
# As an int8 sibling: the same tokens, other pixels.
SIBLING = ModelRef("small-int8", "1", "aaaaaaaa", "22" * 32)
OTHER = ModelRef("other", "7", "bbbbbbbb", "33" * 32)


class FakePipeline:
    """What the registry needs of a Pipeline."""

    def __init__(self, model, metrics) -> None:
        self.model = model
        self.metrics = metrics
        self.stopped = False

    async def stop(self) -> None:
        self.stopped = True


@dataclass
class Shelf:
    """Folders with models, and what was loaded from them."""

    folders: dict[str, ModelRef | Exception] = field(
        default_factory=lambda: {"s": SMALL, "i": SIBLING, "o": OTHER}
    )
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    loads: list[str] = field(default_factory=list)
    opened: list[FakePipeline] = field(default_factory=list)
    metrics: Metrics = field(default_factory=lambda: Metrics(()))

    def __post_init__(self) -> None:
        self.gate.set()

    async def load(self, source: str):
        self.loads.append(source)
        await self.gate.wait()
        found = self.folders[source]
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(ref=found)

    def open(self, model) -> FakePipeline:
        metrics = self.metrics.of_model(model.ref.name)
        metrics.loaded(
            SimpleNamespace(version=model.ref.version, digest="", provider="", load_s=0, warmup_s=0)
        )
        self.opened.append(FakePipeline(model, metrics))
        return self.opened[-1]

    def reloads(self, model: str, result: str) -> float:
        text = self.metrics.exposition()[1].decode()
        start = f'tessera_model_reloads_total{{model="{model}",result="{result}"}} '
        (line,) = (line for line in text.splitlines() if line.startswith(start))
        return float(line.removeprefix(start))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def registry(shelf: Shelf):
    registry = ModelRegistry(shelf.load, shelf.open, drain_timeout_s=5)
    await registry.start(["s", "i", "o"])
    yield registry
    await registry.stop()


def served(registry: ModelRegistry) -> list[str]:
    return [generation.ref.name for generation in registry.in_service]


async def turns(count: int = 20) -> None:
    """Let everything that can happen now happen."""
    for _ in range(count):
        await asyncio.sleep(0)


# Names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fingerprint", "found"),
    [
        ("", "", SMALL),
        ("other", "", OTHER),
        ("other@7", "", OTHER),
        ("small@sha256:ab12cd34", "", SMALL),
        ("small@sha256:AB12CD34AB", "", SMALL),
        ("", "bbbbbbbb", OTHER),
        ("", "aaaaaaaa", SMALL),
        ("small-int8", "aaaaaaaa", SIBLING),
        ("other", "aaaaaaaa", OTHER),
        ("", "dddddddd", SMALL),
    ],
)
async def test_a_name_or_else_the_fingerprint_picks_the_model(registry, name, fingerprint, found):
    with registry.lease(name, fingerprint) as pipeline:
        assert pipeline.model.ref == found


@pytest.mark.parametrize(
    "name", ["smal", "small@2", "small@", "small@sha256:ab12", "small@sha256:ffffffff", "@1"]
)
async def test_what_is_not_served_is_not_found_and_the_error_says_what_is(registry, name):
    with pytest.raises(ModelNotFound) as caught, registry.lease(name):
        pass
    assert caught.value.metadata["served"] == "small@1, small-int8@1, other@7"


async def test_of_two_versions_a_bare_name_means_the_first_unless_the_stream_is_of_the_other(registry, shelf):
    shelf.folders["next"] = replace(SMALL, version="2", fingerprint="cccccccc", digest="44" * 32)
    await registry.load("next")
    assert registry.find("small").ref.version == "1"
    assert registry.find("small@2").ref.version == "2"
    assert registry.find("small", "cccccccc").ref.version == "2"


async def test_nothing_is_served_before_all_models_of_the_start_are_warm(shelf):
    registry = ModelRegistry(shelf.load, shelf.open, drain_timeout_s=5)
    shelf.gate.clear()
    starting = asyncio.create_task(registry.start(["s", "o"]))
    await turns()
    with pytest.raises(NotReady), registry.lease():
        pass
    assert [status.state for status in registry.listing()] == [ModelState.LOADING]
    shelf.gate.set()
    await starting
    assert served(registry) == ["small", "other"]
    await registry.stop()


# Contents ------------------------------------------------------------------------------------------------


async def test_two_contents_under_one_name_and_version_are_refused_at_the_start(shelf):
    shelf.folders["forged"] = replace(SMALL, digest="99" * 32)
    registry = ModelRegistry(shelf.load, shelf.open, drain_timeout_s=5)
    with pytest.raises(ModelConflict, match="other contents as small@1"):
        await registry.start(["s", "forged"])
    await registry.stop()
    assert shelf.opened[0].stopped


async def test_a_reload_refuses_other_contents_under_the_same_version(registry, shelf):
    shelf.folders["s"] = replace(SMALL, digest="99" * 32)
    with pytest.raises(ModelConflict, match="give it another version"):
        await registry.reload("small")
    assert registry.find("small").ref == SMALL
    assert not shelf.opened[0].stopped
    assert (shelf.reloads("small", "failed"), shelf.reloads("small", "ok")) == (1, 0)


async def test_a_version_keeps_its_contents_even_after_it_was_unloaded(registry, shelf):
    await registry.unload("other")
    shelf.folders["o"] = replace(OTHER, digest="99" * 32)
    with pytest.raises(ModelConflict):
        await registry.load("o")


async def test_what_is_served_is_not_loaded_twice(registry):
    with pytest.raises(ModelConflict, match="served already"):
        await registry.load("o")


async def test_a_folder_that_holds_a_model_of_another_name_is_no_reload(registry, shelf):
    shelf.folders["s"] = replace(SMALL, name="stranger")
    with pytest.raises(ModelConflict, match="holds stranger now, not small"):
        await registry.reload("small")


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (ArtifactError("decoder.onnx is not the file that the manifest names"), "MODEL_NOT_FOUND"),
        (MemoryError(), "OUT_OF_MEMORY"),
        (RuntimeError("graph"), "INTERNAL"),
    ],
)
async def test_a_failed_load_says_why_and_changes_nothing(registry, shelf, failure, cause):
    shelf.folders["s"] = failure
    with pytest.raises(ModelLoadFailed) as caught:
        await registry.reload("small")
    assert caught.value.metadata["cause"] == cause
    assert served(registry) == ["small", "small-int8", "other"]
    assert shelf.reloads("small", "failed") == 1
    assert all(status.state is ModelState.READY for status in registry.listing())


# Changes -------------------------------------------------------------------------------------------------


async def test_a_reload_serves_the_old_until_the_new_is_warm_and_frees_it_after_its_last_lease(
    registry, shelf
):
    upgraded = replace(SMALL, version="2", digest="44" * 32)
    shelf.folders["s"] = upgraded
    shelf.gate.clear()
    with registry.lease() as old:
        reloading = asyncio.create_task(registry.reload())
        await turns()
        with registry.lease() as still_old:
            assert still_old is old
        shelf.gate.set()
        await turns()
        with registry.lease() as new:
            assert new.model.ref == upgraded
        (draining,) = (s for s in registry.listing() if s.state is ModelState.DRAINING)
        assert (draining.model.ref, draining.leases) == (SMALL, 1)
        assert not old.stopped and not reloading.done()
    assert (await reloading).ref == upgraded
    assert old.stopped
    assert served(registry) == ["small", "small-int8", "other"]
    assert shelf.reloads("small", "ok") == 1


async def test_a_lease_that_never_ends_does_not_hold_up_a_drain_for_ever(shelf):
    registry = ModelRegistry(shelf.load, shelf.open, drain_timeout_s=0.01)
    await registry.start(["s"])
    with registry.lease() as old:
        await registry.reload()
        assert old.stopped
    await registry.stop()


async def test_the_default_and_the_last_model_stay(registry):
    with pytest.raises(ModelRequired, match="default model"):
        await registry.unload("small")
    await registry.unload("other")
    await registry.unload("small-int8")
    with pytest.raises(ModelRequired, match="only model"):
        await registry.unload("small")


async def test_another_default_lets_the_old_one_go(registry, shelf):
    shelf.folders["next"] = replace(SMALL, version="2", digest="44" * 32)
    await registry.load("next", make_default=True)
    assert registry.find().ref.version == "2"
    await registry.unload("small@1")
    assert served(registry) == ["small", "small-int8", "other"]


async def test_changes_run_one_after_the_other(registry, shelf):
    shelf.gate.clear()
    shelf.loads.clear()
    tasks = [asyncio.create_task(registry.reload(name)) for name in ("small", "other")]
    await turns()
    assert shelf.loads == ["s"]
    shelf.gate.set()
    await asyncio.gather(*tasks)
    assert shelf.loads == ["s", "o"]


async def test_a_change_goes_on_if_its_caller_leaves(registry, shelf):
    shelf.gate.clear()
    caller = asyncio.create_task(registry.reload())
    await turns()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    shelf.gate.set()
    await registry.reload("other")
    assert shelf.reloads("small", "ok") == 1
    assert shelf.opened[0].stopped


async def test_reload_all_goes_on_after_one_that_fails(registry, shelf):
    shelf.folders["s"] = ArtifactError("gone")
    await registry.reload_all()
    assert [shelf.reloads(name, "ok") for name in ("small", "small-int8", "other")] == [0, 1, 1]


async def test_a_server_that_stops_begins_no_change_and_ends_those_that_wait(shelf):
    registry = ModelRegistry(shelf.load, shelf.open, drain_timeout_s=5)
    await registry.start(["s"])
    shelf.gate.clear()
    unfinished = [asyncio.create_task(registry.reload()) for _ in range(2)]
    await turns()
    await registry.stop()
    outcomes = await asyncio.gather(*unfinished, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    with pytest.raises(Draining):
        await registry.load("o")
    assert all(pipeline.stopped for pipeline in shelf.opened)


def test_every_refusal_of_a_change_is_a_status_that_an_operator_can_read():
    for kind in (ModelConflict, ModelRequired, ModelLoadFailed):
        assert issubclass(kind, StatusError) and kind.reason.startswith("MODEL_")


async def test_a_model_that_is_served_becomes_the_default_without_another_copy(registry):
    (first, *_, last) = registry.in_service
    loaded = await registry.load("o", make_default=True)
    assert loaded is last and registry.in_service[0] is last and first in registry.in_service
