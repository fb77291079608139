"""Executors: run one graph on named arrays. Know the runtime's memory, nothing of pictures.

PlainExecutor   arrays in, arrays out; any number of threads at once (CPU)
BoundExecutor   the same through buffers that stay in place, batches padded to buckets, one thread (GPU)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tokenizer.errors import DeviceMemoryExhausted
from tokenizer.providers import BATCH_BUCKETS

Arrays = Mapping[str, NDArray[Any]]
Shapes = tuple[tuple[str, tuple[int, ...], str], ...]
"""Name, shape and type of every input."""

# What the exports call the axis of pictures.
BATCH_AXIS = "batch"
# Sets of buffers kept at once: six buckets on a few canvases. 32 pictures of 256 x 256 take 50 MB.
MAX_BUFFER_SETS = 32
# A recorded graph and its buffers live as long as the session, so later shapes run without one.
MAX_CUDA_GRAPHS = 16
# ONNX Runtime's number for a run that neither records nor replays.
_NO_GRAPH = -1
# Inputs above this are a large canvas (8 pictures of 256 x 256 take 6 MB). What the CPU's arena grows to for
# one it would keep for ever: 960 instead of 500 MiB after a batch of four megapixels.
LARGE_RUN_BYTES = 8 * 2**20
# ONNX Runtime has no class of its own for this: BFC arena, CUDA, cuBLAS and cuDNN in their own words.
_MEMORY_WORDS = (
    "failed to allocate memory",
    "out of memory",
    "smaller than requested bytes",
    "cudaerrormemoryallocation",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
)


class Executor(Protocol):
    """Runs one graph."""

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs by name. Raises DeviceMemoryExhausted."""


class PlainExecutor:
    """`session.run`. Thread-safe: ONNX Runtime sessions are stateless."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See Executor."""
        options = None
        if sum(value.nbytes for value in feeds.values()) > LARGE_RUN_BYTES:
            options = onnxruntime.RunOptions()
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        with memory_errors():
            return dict(zip(self._outputs, self._session.run(None, dict(feeds), options), strict=True))


class BoundExecutor:
    """Buffers on the device, one set per shape of the padded batch. Thread-safe: all runs are in one thread.

    A CUDA graph belongs to the thread that recorded it, and its session allows one run at a time.
    """

    def __init__(
        self,
        session: Any,
        *,
        device: str,
        cuda_graphs: bool = False,
        batch_buckets: Sequence[int] = BATCH_BUCKETS,
    ) -> None:
        self._session, self._device = session, device
        self._buckets = tuple(batch_buckets)
        self._batched_inputs = _with_batch_axis(session.get_inputs())
        self._batched_outputs = _with_batch_axis(session.get_outputs())
        self._cuda_graphs, self._graph_count = cuda_graphs, 0
        self._sets: OrderedDict[Shapes, _BufferSet] = OrderedDict()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tessera-device")

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See Executor."""
        return self._thread.submit(self._run, feeds).result()

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        counts = {len(feeds[name]) for name in self._batched_inputs & feeds.keys()}
        if len(counts) > 1:
            raise ValueError(f"inputs disagree on the number of pictures: {sorted(counts)}")
        count = counts.pop() if counts else 1
        size = padded_size(count, self._buckets)
        padded = {
            name: _pad(value, size) if name in self._batched_inputs else value
            for name, value in feeds.items()
        }
        try:
            with memory_errors():
                outputs = self._buffers(padded).run(padded)
        except DeviceMemoryExhausted:
            # The buffers of other shapes may be what leaves no room, and a smaller batch is tried next.
            self._sets = OrderedDict((shapes, one) for shapes, one in self._sets.items() if one.is_recorded)
            raise
        return {
            name: value[:count] if name in self._batched_outputs else value for name, value in outputs.items()
        }

    def _buffers(self, feeds: Arrays) -> _BufferSet:
        shapes = tuple((name, value.shape, value.dtype.str) for name, value in sorted(feeds.items()))
        if shapes in self._sets:
            self._sets.move_to_end(shapes)
            return self._sets[shapes]
        if len(self._sets) >= MAX_BUFFER_SETS:
            del self._sets[next(key for key, one in self._sets.items() if not one.is_recorded)]
        made = _BufferSet(self._session, self._device, feeds, self._next_graph_id())
        self._sets[shapes] = made
        return made

    def _next_graph_id(self) -> int | None:
        """None where the session records no graphs at all."""
        if not self._cuda_graphs:
            return None
        if self._graph_count == MAX_CUDA_GRAPHS:
            return _NO_GRAPH
        self._graph_count += 1
        return self._graph_count


class _BufferSet:
    """Inputs and outputs of one shape at fixed addresses."""

    def __init__(self, session: Any, device: str, feeds: Arrays, graph_id: int | None) -> None:
        self.is_recorded = graph_id is not None and graph_id != _NO_GRAPH
        self._session, self._graph_id = session, graph_id
        self._names = [output.name for output in session.get_outputs()]
        self._binding = session.io_binding()
        # Not `ortvalue_from_numpy`: on the CPU that would be the caller's own memory.
        self._inputs = {
            name: onnxruntime.OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype.type, device, 0)
            for name, value in feeds.items()
        }
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name in self._names:
            self._binding.bind_output(name, device, 0)
        self._outputs: list[Any] | None = None

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Copy in, run, copy out."""
        for name, value in feeds.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(value))
        if self._outputs is None:
            # Nobody knows the outputs' shapes yet: the runtime makes them, and they stay.
            self._session.run_with_iobinding(self._binding, _run_options(self._graph_id, record=False))
            self._outputs = self._binding.get_outputs()
            for name, value in zip(self._names, self._outputs, strict=True):
                self._binding.bind_ortvalue_output(name, value)
        else:
            self._session.run_with_iobinding(self._binding, _run_options(self._graph_id, record=True))
        # `copy`: on the CPU the array may be the buffer itself, which the next run writes over.
        return {
            name: np.array(value.numpy(), copy=True)
            for name, value in zip(self._names, self._outputs, strict=True)
        }


def padded_size(count: int, buckets: Sequence[int] = BATCH_BUCKETS) -> int:
    """The smallest bucket that holds so many pictures; above the largest, the next multiple of it.

    >>> padded_size(3), padded_size(33)
    (4, 64)
    """
    largest = max(buckets)
    return min((size for size in buckets if size >= count), default=-(-count // largest) * largest)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raises DeviceMemoryExhausted in place of whatever the runtime raises where memory ran out."""
    try:
        yield
    except Exception as error:
        text = str(error).lower()
        if any(words in text for words in _MEMORY_WORDS):
            raise DeviceMemoryExhausted("no memory left for this batch where the model runs") from error
        raise


def _pad(value: NDArray[Any], size: int) -> NDArray[Any]:
    """Repeats the last picture: of a length or an error of 0 the logarithm would be no number."""
    missing = size - len(value)
    return np.concatenate((value, np.repeat(value[-1:], missing, axis=0))) if missing else value


def _with_batch_axis(arguments: Sequence[Any]) -> frozenset[str]:
    return frozenset(one.name for one in arguments if one.shape and one.shape[0] == BATCH_AXIS)


def _run_options(graph_id: int | None, *, record: bool) -> Any:
    options = onnxruntime.RunOptions()
    if graph_id is not None:
        options.add_run_config_entry("gpu_graph_id", str(graph_id if record else _NO_GRAPH))
    return options
