"""Milliseconds to encode and decode one 256x256 picture, from the bare graph up to gRPC.

    python -m benchmarks.speed [--model PATH]... [--image FILE] [--runs 50]

Prints and writes `benchmarks/results/speed.{md,json}`: median and 10th to 90th percentile of

* bare: only `session.run` of ONNX Runtime, on the very arrays that the library passes to its graphs
  (encoder and halting head, or decoder);
* library: `ImageTokenizer.encode` of pixels to all tokens, `.decode` of all tokens to pixels;
* gRPC, raw pixels: the same as unary calls to a server in another process on this machine;
* gRPC, files: a JPEG in, a PNG out, which adds the reading and writing of picture files.

The first model goes through all of them on one thread; then the encoder graph and the decoder graph alone
of every model follow on one and two threads (benchmarks/graph_speed.py), wall time and processor time.

All cases take turns within one run, so that a busy machine disturbs them alike. The library and the client
stay on one processor and the server on another where there are two. Also prints the resident memory of the
server after loading and after the run, and the time it took to start.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image
from rich.progress import track

from benchmarks.graph_speed import Graph, GraphSpeed, graph_cases, graph_table, measure_graphs
from benchmarks.memory import peak_resident_mib, resident_mib
from benchmarks.pictures import Pixels, centre_crop
from benchmarks.report import RESULTS, environment, environment_line, markdown_table, number, write_json
from benchmarks.server_process import ServerProcess, on_core, running_server
from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc as pb_grpc
from tessera.v1 import types_pb2 as types
from tokenizer import ImageTokenizer, TokenSequence
from tokenizer.images import read_image, write_image

SIDE_PX = 256
WARM_UP_RUNS = 3
JPEG_QUALITY = 90
# Well above any single call, well below a hang.
RPC_TIMEOUT_S = 60.0

Case = Callable[[], object]
Samples = Mapping[str, Sequence[float]]


class Recorder:
    """Stands in for a session of the tokenizer and remembers what it was called with."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.calls: list[dict[str, Any]] = []

    def run(self, **arrays: Any) -> Any:
        """Pass on, and remember."""
        self.calls.append(arrays)
        return self._session.run(**arrays)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def bare_case(sessions: Sequence[tuple[object, str]], work: Case) -> Case:
    """What `work` asks of these sessions (owner, attribute), as calls of the sessions alone."""
    originals = [getattr(owner, name) for owner, name in sessions]
    recorders = [Recorder(session) for session in originals]
    try:
        for (owner, name), recorder in zip(sessions, recorders, strict=True):
            setattr(owner, name, recorder)
        work()
    finally:
        for (owner, name), session in zip(sessions, originals, strict=True):
            setattr(owner, name, session)
    if not all(recorder.calls for recorder in recorders):
        raise SystemExit(f"not every session was called: {[name for _, name in sessions]}; update this bench")
    calls = [
        (session, arrays)
        for session, recorder in zip(originals, recorders, strict=True)
        for arrays in recorder.calls
    ]
    return lambda: [session.run(**arrays) for session, arrays in calls]


def library_cases(tokenizer: ImageTokenizer, pixels: Pixels, whole: TokenSequence) -> dict[str, Case]:
    """Bare sessions and the facade."""
    encode: Case = lambda: tokenizer.encode([pixels])  # noqa: E731
    decode: Case = lambda: tokenizer.decode([whole])  # noqa: E731
    return {
        "encode, bare sessions": bare_case(
            [(tokenizer, "encoder"), (tokenizer.layout.curves, "_head")], encode
        ),
        "encode, library": encode,
        "decode, bare session": bare_case([(tokenizer, "decoder")], decode),
        "decode, library": decode,
    }


def rpc_cases(stub: pb_grpc.TokenizerServiceStub, pixels: Pixels, whole: TokenSequence) -> dict[str, Case]:
    """Unary calls, with pixels and with files."""
    height, width, channels = pixels.shape
    tensor = types.Tensor(height_px=height, width_px=width, channel_count=channels, data=pixels.tobytes())
    jpeg = write_image(pixels, "jpeg", quality=JPEG_QUALITY)
    encode_raw = pb.EncodeRequest(image=types.Image(tensor=tensor))
    encode_jpeg = pb.EncodeRequest(image=types.Image(encoded=jpeg))
    stream = whole.to_bytes()
    decode_raw = pb.DecodeRequest(codestream=stream, output=types.OutputFormat(format=types.IMAGE_FORMAT_RAW))
    decode_png = pb.DecodeRequest(codestream=stream, output=types.OutputFormat(format=types.IMAGE_FORMAT_PNG))
    return {
        "encode, gRPC, raw pixels": lambda: stub.Encode(encode_raw, timeout=RPC_TIMEOUT_S),
        "encode, gRPC, JPEG in": lambda: stub.Encode(encode_jpeg, timeout=RPC_TIMEOUT_S),
        "decode, gRPC, raw pixels": lambda: stub.Decode(decode_raw, timeout=RPC_TIMEOUT_S),
        "decode, gRPC, PNG out": lambda: stub.Decode(decode_png, timeout=RPC_TIMEOUT_S),
    }


def take_turns(cases: Mapping[str, Case], runs: int) -> dict[str, list[float]]:
    """Milliseconds of every case, one of each per round, in an order that is shuffled anew each round."""
    for _ in range(WARM_UP_RUNS):
        for case in cases.values():
            case()
    samples: dict[str, list[float]] = {name: [] for name in cases}
    random = np.random.default_rng(0)
    for _ in track(range(runs), description="speed"):
        for name in random.permutation(list(cases)):
            started_s = time.perf_counter()
            cases[name]()
            samples[name].append(1000 * (time.perf_counter() - started_s))
    return samples


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """Resident memory of the server, MiB."""

    after_load_mib: float
    after_run_mib: float
    peak_mib: float
    ready_s: float


def measure(model: str, pixels: Pixels, runs: int) -> tuple[dict[str, list[float]], ServerMemory, str]:
    """Start a server, let all cases take turns; samples, memory, fingerprint."""
    cores = sorted(os.sched_getaffinity(0))
    with running_server(model, core=cores[-1]) as server, _channel(server) as channel, on_core(cores[0]):
        after_load_mib = resident_mib(server.pid)
        tokenizer = ImageTokenizer.from_pretrained(model, num_threads=1)
        (whole,) = tokenizer.encode([pixels])
        stub = pb_grpc.TokenizerServiceStub(channel)  # type: ignore[no-untyped-call]
        cases = library_cases(tokenizer, pixels, whole) | rpc_cases(stub, pixels, whole)
        samples = take_turns(cases, runs)
        memory = ServerMemory(
            after_load_mib, resident_mib(server.pid), peak_resident_mib(server.pid), server.ready_s
        )
    return samples, memory, tokenizer.fingerprint


def _channel(server: ServerProcess) -> grpc.Channel:
    return grpc.insecure_channel(server.target, options=[("grpc.max_receive_message_length", 2**26)])


def _picture(path: Path | None) -> Pixels:
    """The middle of a file, or noise blurred to look a little like a photograph. 256x256."""
    if path is not None:
        return np.asarray(centre_crop(Image.fromarray(read_image(path.read_bytes())), SIDE_PX))
    noise = np.random.default_rng(0).integers(0, 256, (SIDE_PX // 16, SIDE_PX // 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and the middle four fifths, ms."""
    low, middle, high = np.percentile(values, (10, 50, 90)).round(3).tolist()
    return {"p10_ms": low, "median_ms": middle, "p90_ms": high}


def page(
    samples: Samples, memory: ServerMemory, graphs: Mapping[Graph, GraphSpeed], *, fingerprint: str, runs: int
) -> str:
    """Markdown: the cases, then the graphs of every model, then the server."""
    rows = []
    for name in sorted(samples, key=lambda name: not name.startswith("encode")):
        found = summary(samples[name])
        spread = f"{number(found['p10_ms'])} … {number(found['p90_ms'])}"
        rows.append([name, number(found["median_ms"]), spread])
    server = [
        ["resident after load", f"{memory.after_load_mib:.0f} MiB"],
        ["resident after the run", f"{memory.after_run_mib:.0f} MiB"],
        ["highest", f"{memory.peak_mib:.0f} MiB"],
        ["start until it serves", f"{memory.ready_s:.1f} s"],
    ]
    return "\n\n".join(
        [
            f"# Speed at {SIDE_PX}x{SIDE_PX}, one thread, batch 1",
            f"Model fingerprint `{fingerprint}`, {runs} runs in turns, all tokens. "
            "Written by `python -m benchmarks.speed`.",
            markdown_table(["", "median ms", "p10 … p90 ms"], rows),
            "## Graphs alone\n\n" + graph_table(graphs),
            "## The server's process\n\n" + markdown_table(["", "value"], server),
            environment_line() + "\n",
        ]
    )


def main() -> None:
    """Measure, print, write."""
    arguments = _parse()
    models = list(dict.fromkeys(arguments.model or ["default"]))
    pixels = _picture(arguments.image)
    samples, memory, fingerprint = measure(models[0], pixels, arguments.runs)
    graphs = measure_graphs(graph_cases(models, pixels), arguments.runs)
    text = page(samples, memory, graphs, fingerprint=fingerprint, runs=arguments.runs)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "speed.md").write_text(text)
    content: dict[str, object] = {
        "fingerprint": fingerprint,
        "side_px": SIDE_PX,
        "runs": arguments.runs,
        "environment": environment(),
        "cases": {name: summary(values) for name, values in samples.items()},
        "graphs": [asdict(graph) | asdict(speed) for graph, speed in graphs.items()],
        "server": asdict(memory),
    }
    write_json(arguments.results / "speed.json", content)
    print(text)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", action="append", help="name or folder of an artifact; more of them add rows of graphs"
    )
    parser.add_argument("--image", type=Path, help="a picture; its middle 256x256 is used")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
