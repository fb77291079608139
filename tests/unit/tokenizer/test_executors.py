"""Executors: bound buffers give what plain runs give, bit for bit; memory that runs out has its own error."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from tokenizer import executors
from tokenizer.artifact import ModelArtifact
from tokenizer.canvas import Size
from tokenizer.errors import DeviceMemoryExhausted
from tokenizer.executors import BoundExecutor, PlainExecutor, padded_size
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.providers import BATCH_BUCKETS, ProviderOptions
from tokenizer.spectral import block_size, dct_basis

CANVASES = (Size(64, 64), Size(96, 48))


def session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def encoder_feeds(count: int, canvas: Size, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    rows, columns = block_size(canvas)
    return {
        "image": random.uniform(0, 255, (count, 3, canvas.height_px, canvas.width_px)).astype(np.float32),
        "vertical": dct_basis(canvas.height_px, rows),
        "horizontal": dct_basis(canvas.width_px, columns),
    }


@pytest.fixture(scope="module")
def encoder(tiny_artifact) -> onnxruntime.InferenceSession:
    return session(ModelArtifact.load(tiny_artifact).graphs["encoder.onnx"])


@pytest.fixture
def bound(encoder) -> BoundExecutor:
    return BoundExecutor(encoder, device="cpu")


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], strict=True)


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_padded_batches_give_the_bits_of_unpadded_ones(encoder, bound, canvas):
    plain = PlainExecutor(encoder)
    for count in (1, 3, 4, 7, 32, 33):
        feeds = encoder_feeds(count, canvas, seed=count)
        for _ in range(2):  # the first run of a shape learns the outputs, later ones reuse them
            assert_same(bound.run(feeds), plain.run(feeds))


def test_results_stay_when_the_buffers_are_used_again(bound):
    first = bound.run(encoder_feeds(2, CANVASES[0], seed=1))
    second = bound.run(encoder_feeds(2, CANVASES[0], seed=2))
    kept = {name: value.copy() for name, value in second.items()}
    third = bound.run(encoder_feeds(2, CANVASES[0], seed=3))
    assert_same(second, kept)
    assert all((first[name] != second[name]).any() for name in first)
    assert all((second[name] != third[name]).any() for name in first)


def test_inputs_are_not_written_to(bound):
    feeds = encoder_feeds(2, CANVASES[0], seed=1)
    before = {name: value.copy() for name, value in feeds.items()}
    bound.run(feeds)
    bound.run(encoder_feeds(2, CANVASES[0], seed=2))
    assert_same(feeds, before)


def test_any_number_of_threads_may_call_a_bound_executor(encoder, bound):
    plain = PlainExecutor(encoder)
    feeds = [encoder_feeds(1 + seed % 3, CANVASES[seed % 2], seed) for seed in range(24)]
    with ThreadPoolExecutor(6) as pool:
        for wanted, got in zip(map(plain.run, feeds), pool.map(bound.run, feeds), strict=True):
            assert_same(wanted, got)


def test_all_runs_of_a_bound_executor_are_in_one_thread(encoder, bound, monkeypatch):
    seen = set()
    run = encoder.run_with_iobinding

    def spy(*arguments):
        seen.add(threading.get_ident())
        return run(*arguments)

    monkeypatch.setattr(encoder, "run_with_iobinding", spy)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bound.run, [encoder_feeds(1, CANVASES[0], seed) for seed in range(8)]))
    assert len(seen) == 1 and threading.get_ident() not in seen


def test_buffers_of_few_shapes_are_kept(encoder, bound, monkeypatch):
    monkeypatch.setattr(executors, "MAX_BUFFER_SETS", 2)
    plain = PlainExecutor(encoder)
    for count in (1, 2, 4, 1, 8, 2):
        feeds = encoder_feeds(count, CANVASES[0], seed=count)
        assert_same(bound.run(feeds), plain.run(feeds))
        assert len(bound._sets) <= 2


def test_each_bucket_records_a_graph_of_its_own_and_the_first_run_records_none(encoder, monkeypatch):
    monkeypatch.setattr(executors, "MAX_CUDA_GRAPHS", 2)
    bound, ids = BoundExecutor(encoder, device="cpu", cuda_graphs=True), []
    # The CPU ignores graph ids; what is asked for is seen all the same.
    run = encoder.run_with_iobinding
    monkeypatch.setattr(
        encoder,
        "run_with_iobinding",
        lambda binding, options: (
            ids.append(options.get_run_config_entry("gpu_graph_id")),
            run(binding, options),
        ),
    )
    for count in (1, 1, 2, 2, 3, 3, 4, 1):
        bound.run(encoder_feeds(count, CANVASES[0]))
    # One picture, two, then three and four in the same bucket, for which no graph is left.
    assert ids == ["-1", "1", "-1", "2", "-1", "-1", "-1", "1"]


def test_every_bucket_is_the_smallest_that_fits():
    for count in range(1, 100):
        size = padded_size(count)
        assert size >= count
        assert size in BATCH_BUCKETS or size % BATCH_BUCKETS[-1] == 0
        assert all(bucket < count for bucket in BATCH_BUCKETS if bucket < size)


@pytest.mark.parametrize(
    "words",
    [
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : BFCArena::AllocateRawInternal Available memory of "
        "7 is smaller than requested bytes of 9",
        "Failed to allocate memory for requested buffer of size 9663676416",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "std::bad_alloc",
    ],
)
def test_memory_that_runs_out_has_its_own_error(words):
    def run(*_):
        raise RuntimeError(words)

    broken = SimpleNamespace(get_outputs=list, run=run)
    with pytest.raises(DeviceMemoryExhausted):
        PlainExecutor(broken).run({})


def test_other_failures_stay_what_they_are(encoder):
    with pytest.raises(ValueError, match="Required inputs"):
        PlainExecutor(encoder).run({"image": np.zeros((1, 3, 64, 64), np.float32)})


def test_memory_is_given_back_after_a_large_run_only(encoder, monkeypatch):
    asked, run = [], encoder.run

    def spy(names, feeds, options):
        asked.append(options and options.get_run_config_entry("memory.enable_memory_arena_shrinkage"))
        return run(names, feeds, options)

    monkeypatch.setattr(encoder, "run", spy)
    for count in (1, 200):
        feeds = encoder_feeds(count, CANVASES[0])
        assert_same(PlainExecutor(encoder).run(feeds), BoundExecutor(encoder, device="cpu").run(feeds))
    assert asked == [None, "cpu:0"]


def test_buffers_are_given_back_when_memory_runs_out(encoder, bound, monkeypatch):
    bound.run(encoder_feeds(1, CANVASES[0]))
    run = encoder.run_with_iobinding

    def full(*_):
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(encoder, "run_with_iobinding", full)
    with pytest.raises(DeviceMemoryExhausted):
        bound.run(encoder_feeds(8, CANVASES[0]))
    assert not bound._sets
    monkeypatch.setattr(encoder, "run_with_iobinding", run)
    feeds = encoder_feeds(4, CANVASES[0])
    assert_same(bound.run(feeds), PlainExecutor(encoder).run(feeds))


def test_pictures_that_disagree_in_number_are_refused(tiny_artifact):
    decoder = session(ModelArtifact.load(tiny_artifact).graphs["decoder.onnx"])
    feeds = {"means": np.zeros((2, 3, 64, 64), np.float32), "length": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match="disagree"):
        BoundExecutor(decoder, device="cpu").run(feeds)


def test_the_whole_way_of_a_picture_is_the_same_through_bound_buffers(refined_artifact, monkeypatch):
    plain = ImageTokenizer.from_pretrained(refined_artifact)
    bound = ImageTokenizer.from_pretrained(refined_artifact)
    for one in (bound.encoder, bound.decoder, bound._realism._step, bound.layout.curves._head):
        one._executor = BoundExecutor(one._executor._session, device="cpu")
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(3)]
    wanted, got = plain.encode(pictures), bound.encode(pictures)
    assert [one.tokens for one in got] == [one.tokens for one in wanted]
    assert [one.curve for one in got] == [one.curve for one in wanted]
    for realism in (0.0, 0.7):
        pairs = zip(plain.decode(wanted, realism=realism), bound.decode(got, realism=realism), strict=True)
        assert all((one == other).all() for one, other in pairs)


@pytest.fixture
def cuda() -> None:
    """Skips where no CUDA provider works."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_a_gpu_gives_nearly_all_tokens_of_the_cpu(cuda_graphs):
    """fp32 of another order of sums: a coefficient at the edge of a step may fall on its other side."""
    options = ProviderOptions(cuda_graphs=cuda_graphs)
    cpu = ImageTokenizer.from_pretrained("tessera-small")
    gpu = ImageTokenizer.from_pretrained("tessera-small", providers=("cuda", "cpu"), provider_options=options)
    assert gpu.provider == "CUDAExecutionProvider"
    random = np.random.default_rng(0)
    small = [random.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(5)]
    pictures = [one.repeat(32, axis=0).repeat(32, axis=1) for one in small]
    for _ in range(3):  # learn the shapes, record, replay
        theirs = gpu.encode(pictures, coding="fixed")
    ours = cpu.encode(pictures, coding="fixed")
    same = np.mean([np.mean(a.token_ids == b.token_ids) for a, b in zip(ours, theirs, strict=True)])
    assert same >= 0.999
