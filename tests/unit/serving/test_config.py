"""ServingConfig refuses settings that could never work, and counts processors as the container does."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serving import cpu
from serving.config import ServingConfig, describe_invalid


@pytest.mark.parametrize(
    "settings",
    [
        {"max_image_size_bytes": 20 * 2**20},
        {"max_image_area_px": 10**9},
        {"max_batch_size": 64, "max_queue_items": 8},
        {"max_codestream_size_bytes": 17 * 2**20},
        {"port": 70_000},
        {"log_level": "loud"},
        {"no_such_setting": 1},
        {"model": "a", "models": ("b",)},
        {"models": ("a", "a")},
        {"model": ""},
        {"admin_host": "0.0.0.0"},
    ],
)
def test_settings_under_which_some_request_could_never_be_served_are_refused(settings):
    with pytest.raises(ValidationError) as caught:
        ServingConfig(**settings)
    assert describe_invalid(caught.value)


def test_the_environment_sets_and_arguments_win(monkeypatch):
    monkeypatch.setenv("TESSERA_PORT", "1234")
    monkeypatch.setenv("TESSERA_MAX_BATCH_SIZE", "2")
    config = ServingConfig(port=4321)
    assert (config.port, config.max_batch_size) == (4321, 2)


def test_one_model_or_several_are_named_by_either_variable(monkeypatch):
    assert ServingConfig().model_sources == ("default",)
    monkeypatch.setenv("TESSERA_MODEL", "tessera-small")
    assert ServingConfig().model_sources == ("tessera-small",)
    monkeypatch.delenv("TESSERA_MODEL")
    monkeypatch.setenv("TESSERA_MODELS", '["tessera-small", "tessera-small-int8"]')
    assert ServingConfig().model_sources == ("tessera-small", "tessera-small-int8")


def test_every_setting_is_described():
    assert all(field.description for field in ServingConfig.model_fields.values())


def test_what_is_printed_at_start_has_the_automatic_values_resolved(monkeypatch):
    monkeypatch.setattr("serving.config.available_cpu_count", lambda: 3)
    effective = ServingConfig().effective()
    assert (effective["num_threads"], effective["image_threads"]) == (3, 2)


@pytest.mark.parametrize(
    ("quota", "affinity", "count"), [(None, 8, 8), (1.5, 8, 2), (16.0, 4, 4), (0.2, 4, 1)]
)
def test_the_smaller_of_affinity_and_quota_counts(monkeypatch, quota, affinity, count):
    monkeypatch.setattr(cpu, "_cgroup_quota_cpus", lambda: quota)
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _pid: set(range(affinity)))
    assert cpu.available_cpu_count() == count
