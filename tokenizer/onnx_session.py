"""OnnxSession: one graph on the execution providers that were asked for, and on no others.

providers.py   names and options     executors.py   how a run moves its arrays
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import ProviderError
from tokenizer.providers import (
    DEFAULT_OPTIONS,
    PROVIDERS,
    ProviderFallback,
    ProviderOptions,
    check_names,
    short_name,
)

if TYPE_CHECKING:
    from tokenizer.executors import Executor


class OnnxSession:
    """Named arrays in, named arrays out. Thread-safe."""

    def __init__(
        self,
        graph: bytes,
        providers: Sequence[str] = ("cpu",),
        num_threads: int = 1,
        options: ProviderOptions = DEFAULT_OPTIONS,
    ) -> None:
        """Raises ProviderError if the runtime is missing or does not give every provider that is asked for.

        With `options.allow_fallback` it goes on with those that it got; `fallback` tells.
        """
        check_names(providers)
        runtime = _runtime()
        available = runtime.get_available_providers()
        # The CPU is part of every build.
        absent = [name for name in providers if name != "cpu" and PROVIDERS[name] not in available]
        if absent and not options.allow_fallback:
            raise ProviderError(f"{PROVIDERS[absent[0]]} is not in this ONNX Runtime, which has {available}")
        present = [name for name in providers if name not in absent]
        wanted = [(PROVIDERS[name], options.of(name)) for name in present or ("cpu",)]
        session = runtime.InferenceSession(graph, _session_options(runtime, num_threads), providers=wanted)
        got = session.get_providers()
        self.provider: str = got[0]
        self.fallback = _fallback(providers, got, options)
        self.outputs = tuple(output.name for output in session.get_outputs())
        self._executor = _executor(session, short_name(self.provider), options)

    def run(self, **inputs: NDArray[np.float32] | NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """One forward pass. Raises DeviceMemoryExhausted."""
        return self._executor.run(inputs)


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(
            "ONNX Runtime is not installed: pip install 'tessera[cpu]' or 'tessera[gpu]'"
        ) from error
    return onnxruntime


def _session_options(runtime: Any, num_threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    # Our graphs are chains: parallel branches would only add a second pool of threads.
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    # A spinning pool burns cores that other requests need, and gains nothing between requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _fallback(
    providers: Sequence[str], got: Sequence[str], options: ProviderOptions
) -> ProviderFallback | None:
    """ONNX Runtime takes the CPU in silence; what the session got is the only truth."""
    missing = next((name for name in providers if PROVIDERS[name] not in got), None)
    if missing is None:
        return None
    if not options.allow_fallback:
        raise ProviderError(f"asked for {', '.join(providers)}, ONNX Runtime gave {', '.join(got)}")
    return ProviderFallback(missing, short_name(got[0]))


def _executor(session: Any, provider: str, options: ProviderOptions) -> Executor:
    # Imported here, since that file cannot be without the runtime.
    from tokenizer.executors import BoundExecutor, PlainExecutor

    if provider == "cpu":
        return PlainExecutor(session)
    return BoundExecutor(session, device="cuda", cuda_graphs=options.cuda_graphs)
