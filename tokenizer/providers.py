"""Execution providers: their names, what is set for them, and what it means that one gave way. Runs nothing.

cpu        ONNX Runtime's own kernels; takes every operator, so it comes last
cuda       one NVIDIA GPU
tensorrt   the same GPU through compiled engines; the first run of a shape takes minutes without a cache
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizer.errors import ProviderError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
CUDNN_CONV_SEARCHES = ("heuristic", "exhaustive", "default")
# Each is one set of buffers and one CUDA graph per canvas; 32 is where GPU throughput usually levels off.
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """How providers are to run. The defaults suit the CPU, which reads none of them but the first."""

    allow_fallback: bool = False
    """Go on with what ONNX Runtime gives where a requested provider is missing."""
    gpu_memory_limit_bytes: int = 0
    """Most memory of each graph's arena on the GPU; 0 is no limit."""
    cudnn_conv_search: str = "heuristic"
    """`exhaustive` times every algorithm at each new shape: for few canvases only."""
    cuda_graphs: bool = False
    """Replay recorded launches for each batch bucket and canvas; every node must be on the GPU."""
    tensorrt_cache_dir: Path | None = None
    """Where engines and their timings are kept; valid for one GPU, driver and TensorRT version."""
    tensorrt_fp16: bool = False
    """Half precision: faster, and no longer the numbers that the model was measured with."""

    def __post_init__(self) -> None:
        if self.cudnn_conv_search not in CUDNN_CONV_SEARCHES:
            raise ProviderError(
                f"cudnn_conv_search must be one of {', '.join(CUDNN_CONV_SEARCHES)}, "
                f"got {self.cudnn_conv_search!r}"
            )
        if self.gpu_memory_limit_bytes < 0:
            raise ProviderError(
                f"gpu_memory_limit_bytes must be 0 or more, got {self.gpu_memory_limit_bytes}"
            )

    def of(self, name: str) -> dict[str, str]:
        """ONNX Runtime's options of one provider, as it spells them."""
        return {"cuda": self._cuda, "tensorrt": self._tensorrt}.get(name, dict)()

    def _cuda(self) -> dict[str, str]:
        options = {
            # The default doubles the arena at need, and what it took it never gives back.
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": self.cudnn_conv_search.upper(),
            # TF32 rounds to ten bits before it multiplies; quantization was defined in fp32.
            "use_tf32": "0",
            "enable_cuda_graph": _flag(self.cuda_graphs),
        }
        if self.gpu_memory_limit_bytes:
            options["gpu_mem_limit"] = str(self.gpu_memory_limit_bytes)
        return options

    def _tensorrt(self) -> dict[str, str]:
        options = {
            "trt_fp16_enable": _flag(self.tensorrt_fp16),
            "trt_cuda_graph_enable": _flag(self.cuda_graphs),
        }
        if self.tensorrt_cache_dir is not None:
            folder = str(self.tensorrt_cache_dir)
            for cache in ("engine", "timing"):
                options |= {f"trt_{cache}_cache_enable": "1", f"trt_{cache}_cache_path": folder}
        return options


DEFAULT_OPTIONS = ProviderOptions()


@dataclass(frozen=True, slots=True)
class ProviderFallback:
    """A requested provider that ONNX Runtime did not give, and what does the work instead."""

    requested: str
    actual: str


def check_names(names: Sequence[str]) -> None:
    """Raises ProviderError unless these are known, different, and `cpu` is last if it is there."""
    if not names or any(name not in PROVIDERS for name in names) or len(set(names)) < len(names):
        raise ProviderError(
            f"providers must be among {', '.join(PROVIDERS)}, each at most once, got {list(names)}"
        )
    if "cpu" in names[:-1]:
        raise ProviderError(f"cpu takes every operator, so it must come last, got {list(names)}")


def short_name(provider: str) -> str:
    """Our name of a provider of ONNX Runtime.

    >>> short_name("CUDAExecutionProvider")
    'cuda'
    """
    return next((name for name, theirs in PROVIDERS.items() if theirs == provider), provider)


def _flag(on: bool) -> str:
    return "1" if on else "0"
