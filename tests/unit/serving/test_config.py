"""ServingConfig refuses settings that could never work, and counts processors as the container does."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serving import cpu
from serving.config import ServingConfig
from serving.invalid_settings import describe_invalid
from tokenizer.providers import ProviderOptions


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_image_size_bytes": 20 * 2**20}, "max_image_size_bytes (20971520) must be at least 4096 below"),
        ({"max_image_area_px": 10**9}, "max_queue_size_bytes (536870912) is less than one picture"),
        ({"max_batch_size": 64, "max_queue_items": 8}, "max_batch_size (64) is above max_queue_items (8)"),
        ({"max_codestream_size_bytes": 17 * 2**20}, "max_codestream_size_bytes does not fit"),
        ({"port": 70_000}, "port: must be at most 65535, got 70000"),
        ({"port": "tcp://10.0.0.7:80"}, "port: must be a whole number, got 'tcp://10.0.0.7:80'"),
        ({"max_batch_size": 0}, "max_batch_size: must be at least 1, got 0"),
        ({"default_deadline_s": "0"}, "default_deadline_s: must be above 0, got '0'"),
        ({"rate_limit_burst_s": "fast"}, "rate_limit_burst_s: must be a number, got 'fast'"),
        ({"rate_limit_pictures_per_s": "nan"}, "rate_limit_pictures_per_s: must be finite, got 'nan'"),
        ({"cuda_graphs": "perhaps"}, "cuda_graphs: must be true or false, got 'perhaps'"),
        ({"log_level": "loud"}, "log_level: must be one of debug, info, warning, error, got 'loud'"),
        ({"decode_isolation": "none"}, "decode_isolation: must be 'thread' or 'process', got 'none'"),
        ({"no_such_setting": 1}, "no_such_setting: there is no such setting"),
        ({"model": "a", "models": ("b",)}, "give model or models, not both"),
        ({"models": ("a", "a")}, "models must be different and not empty, got ['a', 'a']"),
        ({"model": ""}, "model: must not be empty, got ''"),
        ({"admin_host": "0.0.0.0"}, "admin_host: must be a loopback address such as 127.0.0.1 or ::1, got"),
    ],
)
def test_settings_under_which_some_request_could_never_be_served_are_refused(settings, said):
    with pytest.raises(ValidationError) as caught:
        ServingConfig(**settings)
    assert describe_invalid(caught.value).startswith(said)


def test_every_wrong_setting_is_a_line_in_our_own_words():
    with pytest.raises(ValidationError) as caught:
        ServingConfig(port=-1, providers=1, num_threads="x" * 900)
    said = describe_invalid(caught.value)
    assert said.count("\n") == 2 and max(map(len, said.splitlines())) < 120
    assert not any(word in said for word in ("Input", "pydantic", "Value error"))


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


def test_a_gpu_has_one_instance():
    with pytest.raises(ValidationError, match="must be 1 with cuda, cpu"):
        ServingConfig(num_instances=2, providers=("cuda", "cpu"))
    assert ServingConfig(num_instances=2).num_instances == 2


def test_every_instance_may_call_the_model_unless_told_otherwise():
    assert ServingConfig().effective_model_calls == 2
    assert ServingConfig(num_instances=4).effective_model_calls == 8
    assert ServingConfig(num_instances=4, max_model_calls=4).effective_model_calls == 4
    with pytest.raises(ValidationError, match="could never all work"):
        ServingConfig(num_instances=4, max_model_calls=3)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"max_batch_size": 4}, (1, 4)),
        ({"max_batch_size": 1}, (1,)),
        ({"max_batch_size": 20, "providers": ("cuda",)}, (1, 2, 4, 8, 16, 20)),
        ({"max_batch_size": 1, "providers": ("tensorrt", "cuda")}, (1,)),
    ],
)
def test_every_size_of_batch_that_has_buffers_of_its_own_is_warmed_up(settings, sizes):
    assert ServingConfig(**settings).warm_up_batch_sizes == sizes


def test_settings_of_providers_reach_the_library(tmp_path):
    config = ServingConfig(
        allow_provider_fallback=True,
        gpu_memory_limit_bytes=2**30,
        cudnn_conv_search="exhaustive",
        cuda_graphs=True,
        tensorrt_cache_dir=tmp_path,
        tensorrt_fp16=True,
    )
    assert config.provider_options == ProviderOptions(True, 2**30, "exhaustive", True, tmp_path, True)
    assert ServingConfig().provider_options == ProviderOptions()
