"""ModelMetrics by itself: generations of one name share its series, and take their part with them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics.model import LoadedModel, ModelMetrics
from serving.metrics.server import Metrics

WHICH = {"model": "small", "version": "1"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(())


def generation(metrics: Metrics, version: str = "1", digest: str = "ab") -> ModelMetrics:
    made = metrics.of_model("small")
    made.loaded(LoadedModel(version, digest, "cpu", load_s=2.0, warmup_s=1.0))
    made.queue_limits(items=32, size_bytes=1000)
    made.ready(True)
    return made


def values(metrics: Metrics, name: str, **labels: str) -> list[float]:
    families = text_string_to_metric_families(metrics.exposition()[1].decode())
    return [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def test_generations_of_one_name_add_up_and_each_takes_its_part_with_it(metrics):
    old, new = generation(metrics, "1"), generation(metrics, "2")
    old.queue_items("encode", 5)
    new.queue_items("encode", 2)
    assert values(metrics, "tessera_queue_items", model="small", op="encode") == [7]
    assert values(metrics, "tessera_queue_limit_items", model="small", op="encode") == [64]
    assert values(metrics, "tessera_queue_limit_bytes", model="small", op="encode") == [1000]
    old.retire()
    assert values(metrics, "tessera_queue_items", model="small", op="encode") == [2]
    assert values(metrics, "tessera_queue_limit_items", model="small", op="encode") == [32]
    assert values(metrics, "tessera_model_ready") == [1]


def test_the_same_model_loaded_again_stays_ready_when_the_old_one_retires(metrics):
    old, new = generation(metrics), generation(metrics)
    old.ready(False)
    assert values(metrics, "tessera_model_ready", **WHICH) == [1]
    old.retire()
    assert values(metrics, "tessera_model_ready", **WHICH) == [1]
    assert values(metrics, "tessera_model_info", **WHICH) == [1]
    new.ready(False)
    assert values(metrics, "tessera_model_ready", **WHICH) == [0]


def test_the_last_generation_removes_the_gauges_and_leaves_the_counters(metrics):
    only = generation(metrics)
    only.batch("encode", 3, "full")
    only.retire()
    for gauge in ("queue_items", "queue_limit_bytes", "model_info", "model_ready", "model_load_seconds"):
        assert values(metrics, f"tessera_{gauge}") == [], gauge
    assert values(metrics, "tessera_batches_total", model="small", op="encode", trigger="full") == [1]


def test_a_request_that_outlives_its_model_brings_no_gauge_back(metrics):
    only = generation(metrics)
    only.queue_bytes("decode", 100)
    only.retire()
    only.queue_bytes("decode", -100)
    assert values(metrics, "tessera_queue_bytes") == []
