"""Execution providers: what is asked for is what works, or the start fails; their options as documented."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from tokenizer.errors import ProviderError
from tokenizer.onnx_session import OnnxSession
from tokenizer.providers import PROVIDERS, ProviderFallback, ProviderOptions


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An ONNX Runtime that lists `available` and whose sessions get `given`."""
    fake = SimpleNamespace(available=list(PROVIDERS), given=list(PROVIDERS), asked=None)

    class Session:
        def __init__(self, _graph, options, providers):
            fake.asked, fake.options = dict(providers), options

        def get_providers(self):
            return [PROVIDERS[name] for name in fake.given]

        def get_inputs(self):
            return []

        get_outputs = get_inputs

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: [PROVIDERS[n] for n in fake.available]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return fake


def test_a_session_that_lacks_a_later_provider_is_refused_too(runtime):
    runtime.given = ["cuda", "cpu"]
    with pytest.raises(ProviderError, match="asked for tensorrt, cuda"):
        OnnxSession(b"", ("tensorrt", "cuda"))


@pytest.mark.parametrize(
    ("available", "given", "fallback"),
    [
        (["cpu"], ["cpu"], ProviderFallback("tensorrt", "cpu")),
        (["cuda", "cpu"], ["cuda", "cpu"], ProviderFallback("tensorrt", "cuda")),
        (["tensorrt", "cuda", "cpu"], ["cpu"], ProviderFallback("tensorrt", "cpu")),
        (["tensorrt", "cuda", "cpu"], ["tensorrt", "cuda", "cpu"], None),
    ],
)
def test_where_it_is_allowed_a_fallback_is_told(runtime, available, given, fallback):
    runtime.available, runtime.given = available, given
    session = OnnxSession(b"", ("tensorrt", "cuda", "cpu"), options=ProviderOptions(allow_fallback=True))
    assert session.fallback == fallback
    assert session.provider == PROVIDERS[given[0]]
    assert list(runtime.asked) == [PROVIDERS[name] for name in available]


@pytest.mark.parametrize("providers", [(), ("gpu",), ("cpu", "cuda"), ("cuda", "cuda")])
def test_lists_that_make_no_sense_are_refused(providers):
    with pytest.raises(ProviderError):
        OnnxSession(b"", providers)


def test_options_reach_the_runtime_as_it_spells_them(runtime):
    options = ProviderOptions(
        gpu_memory_limit_bytes=2**30,
        cudnn_conv_search="exhaustive",
        cuda_graphs=True,
        tensorrt_cache_dir=Path("/cache"),
        tensorrt_fp16=True,
    )
    OnnxSession(b"", ("tensorrt", "cuda", "cpu"), options=options)
    assert runtime.asked == {
        "TensorrtExecutionProvider": {
            "trt_fp16_enable": "1",
            "trt_cuda_graph_enable": "1",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": "/cache",
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": "/cache",
        },
        "CUDAExecutionProvider": {
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "use_tf32": "0",
            "enable_cuda_graph": "1",
            "gpu_mem_limit": str(2**30),
        },
        "CPUExecutionProvider": {},
    }


def test_a_session_runs_its_nodes_in_order_and_does_not_spin(runtime):
    runtime.given = ["cpu"]
    OnnxSession(b"", ("cpu",), num_threads=3)
    options = runtime.options
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("settings", [{"cudnn_conv_search": "best"}, {"gpu_memory_limit_bytes": -1}])
def test_options_that_make_no_sense_are_refused(settings):
    with pytest.raises(ProviderError):
        ProviderOptions(**settings)
