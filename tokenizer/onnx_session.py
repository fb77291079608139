"""OnnxSession: one graph on the execution providers that were asked for, and on no others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tokenizer.errors import ProviderError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class OnnxSession:
    """Named arrays in, named arrays out. Thread-safe: ONNX Runtime sessions are stateless."""

    def __init__(self, graph: bytes, providers: Sequence[str] = ("cpu",), num_threads: int = 1) -> None:
        """Raises ProviderError if the runtime is missing or gives another provider than the first asked."""
        try:
            import onnxruntime
        except ImportError as error:
            raise ProviderError(
                "ONNX Runtime is not installed: pip install 'tessera[cpu]' or 'tessera[gpu]'"
            ) from error
        unknown = [name for name in providers if name not in PROVIDERS]
        if unknown or not providers:
            raise ProviderError(f"providers must be among {', '.join(PROVIDERS)}, got {list(providers)}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        # A spinning pool burns cores that other requests need, and gains nothing between requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        wanted = [PROVIDERS[name] for name in providers]
        available = onnxruntime.get_available_providers()
        if wanted[0] not in available:
            raise ProviderError(f"{wanted[0]} is not in this ONNX Runtime, which has {available}")
        self._session = onnxruntime.InferenceSession(graph, options, providers=wanted)
        # ONNX Runtime falls back to the CPU in silence; what the session got is the only truth.
        self.provider: str = self._session.get_providers()[0]
        if self.provider != wanted[0]:
            raise ProviderError(f"asked for {wanted[0]}, ONNX Runtime gave {self.provider}")
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, **inputs: NDArray[np.float32] | NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """One forward pass."""
        return dict(zip(self.outputs, self._session.run(None, inputs), strict=True))
