"""What does the service cost over the library? Unary Encode of 256x256 JPEGs, one thread of the model.

    python -m benchmarks.serving_throughput [--seconds 20] [--runs 5]

All of these work on the same eight JPEGs, take turns in an order that is shuffled anew each run, and use one
thread for the model:

* bare: Pillow reads the JPEG, ONNX Runtime runs the encoder, the range coder writes the tokens and the head
  predicts the curve, in a plain loop without the library's checks; one picture at a time;
* library: `read_image` and `ImageTokenizer.encode`, one picture at a time, and four at a time (the server's
  largest batch);
* served: `Encode` over the loopback from one client, and from eight, which fill every batch.

"Apart": server, bare loop and library have one processor for everything they do, and the clients another.
"Together": all may use all processors, so that the clients take time from the server, but the server can
also read one picture while the model works on another, which a plain loop cannot.

What the service adds to the median latency is told by calls in turn: each picture is encoded bare, by the
library and by the server, and sent to a server that only answers with as many bytes, one right after the
other in an order that rotates, and the difference is taken per picture. Each is called twice and the second
time counts, since a process that comes after another finds none of its own in the caches. Between whole
loops a shared machine changes by more than the milliseconds in question. What the last of these calls takes
is gRPC's own.

Then open loops at 70 % of what eight clients reached, with equal gaps and with Poisson arrivals. Poisson
arrivals queue even in front of a perfect server: for one worker that takes the same time for each call
(M/D/1), the p99 of the whole time is 4 times the median at this load. That is why both are given.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from io import BytesIO

import grpc
import numpy as np
from PIL import Image

from benchmarks import serving_runs as runs
from benchmarks.report import markdown_table, percent
from benchmarks.server_process import ServerProcess, on_core, running_echo_server
from serving.client import TokenizerClient
from serving.load.pictures import LoadPicture
from serving.load.plan import Arrivals, LoadPlan
from serving.load.summary import LoadReport
from tokenizer import ImageTokenizer
from tokenizer.canvas import Size
from tokenizer.images import read_image
from tokenizer.preprocess import to_model_input

BATCH = 4
CLIENTS = 8
LOAD_SHARE = 0.7
LEAST_TURNS = 6
# Of a reply of Encode beside its stream: the curve, model and timings, about.
_REPLY_OVERHEAD_BYTES = 1_200
GRPC = "gRPC that only answers"
BARE, LIBRARY, LIBRARY_BATCH = "bare", "library", f"library, {BATCH} at a time"
ONE, MANY = "served, 1 client", f"served, {CLIENTS} clients"


@dataclass(frozen=True, slots=True)
class Speed:
    """One case of one run. Latency is that of a call, so of a whole batch where it has several pictures."""

    pictures_per_s: float
    p50_ms: float
    p99_ms: float


Cases = list[dict[str, Speed]]
"""Name of a case -> its speed, for each run."""


def bare_encode(tokenizer: ImageTokenizer, jpeg: bytes) -> None:
    """What the model needs, and nothing more: no checks, no fitting, no grouping by canvas."""
    pixels = np.asarray(Image.open(BytesIO(jpeg)))
    canvas = Size(pixels.shape[1], pixels.shape[0])
    inputs = tokenizer.layout.canvas_inputs(canvas)
    out = tokenizer.encoder.run(image=to_model_input([pixels]), **inputs)
    row = {name: value[0] for name, value in out.items()}
    tokenizer.layout.tokenize(row, canvas, tokenizer.codings[0], pixels, 0.0)


def library_encode(tokenizer: ImageTokenizer, jpegs: Sequence[bytes]) -> None:
    """What the library does with files."""
    tokenizer.encode([read_image(jpeg) for jpeg in jpegs])


def looped(work: Callable[[int], None], seconds: float, per_call: int) -> Speed:
    """Call until the time is over."""
    work(0)
    taken: list[float] = []
    start_s = time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        before_s = time.perf_counter()
        work(len(taken))
        taken.append(time.perf_counter() - before_s)
    p50, p99 = (1000 * np.percentile(taken, (50, 99), method="higher")).tolist()
    return Speed(per_call * len(taken) / sum(taken), p50, p99)


def local_cases(
    tokenizer: ImageTokenizer, sent: Sequence[LoadPicture], seconds: float
) -> dict[str, Callable[[], Speed]]:
    """Everything without a server."""
    jpegs = [picture.file or b"" for picture in sent]

    def some(first: int, count: int) -> list[bytes]:
        return [jpegs[(first + i) % len(jpegs)] for i in range(count)]

    return {
        BARE: lambda: looped(lambda i: bare_encode(tokenizer, some(i, 1)[0]), seconds, 1),
        LIBRARY: lambda: looped(lambda i: library_encode(tokenizer, some(i, 1)), seconds, 1),
        LIBRARY_BATCH: lambda: looped(
            lambda i: library_encode(tokenizer, some(BATCH * i, BATCH)), seconds, BATCH
        ),
    }


def served(
    server: ServerProcess, sent: Sequence[LoadPicture], clients: int, seconds: float, core: int | None
) -> Speed:
    """A closed loop."""
    plan = LoadPlan(server.target, clients=clients, duration_s=seconds, warm_up_s=1.0, deadline_s=60.0)
    report, _ = runs.load(plan, sent, core=core)
    assert report.ok_latency is not None  # eight clients cannot fill a queue of 32
    return Speed(report.throughput_per_s, report.ok_latency.p50_ms, report.ok_latency.p99_ms)


def added_ms(
    tokenizer: ImageTokenizer,
    server: ServerProcess,
    sent: Sequence[LoadPicture],
    seconds: float,
    cores: tuple[int | None, int | None],
) -> dict[str, float]:
    """Median of what one served call takes longer than the same picture bare, and in the library; and how
    long a call takes that only sends the picture and as many bytes back."""
    client_core, server_core = cores
    with ExitStack() as stack:
        client = stack.enter_context(TokenizerClient(server.target))
        reply_bytes = len(client.encode(sent[0].file or b"").to_bytes()) + _REPLY_OVERHEAD_BYTES
        echo = stack.enter_context(running_echo_server(reply_bytes, core=server_core))
        only_answers = stack.enter_context(grpc.insecure_channel(echo.target)).unary_unary("/echo/Echo")
        stack.enter_context(on_core(client_core))
        ways: list[tuple[str, int | None, Callable[[bytes], object]]] = [
            (BARE, server_core, lambda jpeg: bare_encode(tokenizer, jpeg)),
            (LIBRARY, server_core, lambda jpeg: library_encode(tokenizer, [jpeg])),
            (ONE, client_core, client.encode),
            (GRPC, client_core, only_answers),
        ]
        turns = in_turns(ways, [picture.file or b"" for picture in sent], seconds)
    added = {
        theirs: statistics.median(turn[ONE] - turn[theirs] for turn in turns) for theirs in (BARE, LIBRARY)
    }
    return added | {GRPC: statistics.median(turn[GRPC] for turn in turns)}


def in_turns(
    ways: Sequence[tuple[str, int | None, Callable[[bytes], object]]], jpegs: Sequence[bytes], seconds: float
) -> list[dict[str, float]]:
    """Milliseconds of each way (name, processor, work), for one picture after the other."""
    turns: list[dict[str, float]] = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s or len(turns) < LEAST_TURNS:
        jpeg, first = jpegs[len(turns) % len(jpegs)], len(turns) % len(ways)
        turn = {}
        for name, core, work in (*ways[first:], *ways[:first]):
            with on_core(core):
                work(jpeg)  # the caches are full of what the way before has left there
                before_s = time.perf_counter()
                work(jpeg)
                turn[name] = 1000 * (time.perf_counter() - before_s)
        turns.append(turn)
    # The first ones warm up connections and caches.
    return turns[len(ways) :]


def at_share(
    server: ServerProcess,
    sent: Sequence[LoadPicture],
    arrivals: Arrivals,
    rate_per_s: float,
    seconds: float,
    core: int | None,
) -> LoadReport:
    """An open loop."""
    plan = LoadPlan(
        server.target,
        rate_per_s=rate_per_s,
        arrivals=arrivals,
        duration_s=seconds,
        warm_up_s=1.0,
        deadline_s=60.0,
    )
    return runs.load(plan, sent, core=core)[0]


def measure(arguments: argparse.Namespace, place: str) -> tuple[Cases, Cases, list[dict[str, float]]]:
    """Speeds, latencies at 70 % load, and milliseconds added to a call, each of each run."""
    cores = client_core, server_core = runs.cores_at(place)
    sent = runs.pictures(arguments)
    with on_core(server_core):
        tokenizer = ImageTokenizer.from_pretrained(arguments.model, num_threads=1)
    local = local_cases(tokenizer, sent, arguments.seconds)
    random = np.random.default_rng(0)
    speeds: Cases = []
    tails: Cases = []
    added: list[dict[str, float]] = []
    with runs.server_of(arguments, core=server_core) as server:
        for _ in range(arguments.runs):
            found: dict[str, Speed] = {}
            for name in random.permutation([*local, ONE, MANY]).tolist():
                if name in local:
                    with on_core(server_core):
                        found[name] = local[name]()
                else:
                    clients = 1 if name == ONE else CLIENTS
                    found[name] = served(server, sent, clients, arguments.seconds, client_core)
            speeds.append(found)
            added.append(added_ms(tokenizer, server, sent, arguments.seconds, cores))
        rate = LOAD_SHARE * statistics.median(found[MANY].pictures_per_s for found in speeds)
        for _ in range(arguments.runs):
            tail: dict[str, Speed] = {}
            for arrivals in Arrivals:
                report = at_share(server, sent, arrivals, rate, arguments.seconds, client_core)
                assert report.ok_latency is not None  # nothing is refused at this load
                tail[arrivals.value] = Speed(rate, report.ok_latency.p50_ms, report.ok_latency.p99_ms)
            tails.append(tail)
    return speeds, tails, added


def speed_table(found: Sequence[Mapping[str, Speed]]) -> str:
    """Throughput and latency of each case, medians over the runs."""
    rows = [
        [
            name,
            runs.spread([run[name].pictures_per_s for run in found]),
            runs.spread([run[name].p50_ms for run in found]),
            runs.spread([run[name].p99_ms for run in found]),
        ]
        for name in (BARE, LIBRARY, LIBRARY_BATCH, ONE, MANY)
    ]
    return markdown_table(["", "pictures/s", "p50, ms", "p99, ms"], rows)


def target_table(
    found: Sequence[Mapping[str, Speed]],
    tails: Sequence[Mapping[str, Speed]],
    added: Sequence[Mapping[str, float]],
) -> str:
    """The promises, each from figures of the same run."""
    rows = []
    for ours, theirs in ((ONE, BARE), (MANY, BARE), (MANY, LIBRARY_BATCH)):
        losses = [1 - run[ours].pictures_per_s / run[theirs].pictures_per_s for run in found]
        middle = statistics.median(losses)
        rows.append([f"throughput lost, {ours} against {theirs}", percent(middle), "<= 10 %",
                     runs.verdict(middle <= 0.1)])  # fmt: skip
    for theirs in (BARE, LIBRARY):
        each = [run[theirs] for run in added]
        rows.append([f"p50 added at one client, against {theirs} in turn, ms", runs.spread(each), "<= 1.5",
                     runs.verdict(statistics.median(each) <= 1.5)])  # fmt: skip
    grpc_ms = runs.spread([run[GRPC] for run in added])
    rows.append(["of it a gRPC call that only answers, in turn, ms", grpc_ms, "", ""])
    for arrivals in Arrivals:
        ratios = [tail[arrivals.value].p99_ms / tail[arrivals.value].p50_ms for tail in tails]
        p50 = runs.spread([tail[arrivals.value].p50_ms for tail in tails], 0)
        name = f"p99 / p50 at 70 % load, {arrivals.value} arrivals (p50 {p50} ms)"
        rows.append([name, runs.spread(ratios), "<= 2", runs.verdict(statistics.median(ratios) <= 2)])
    return markdown_table(["", "median (least … most)", "target", ""], rows)


def main() -> None:
    """Measure, print, write."""
    arguments = runs.parsed(runs.parser(__doc__, runs=5, seconds=20))
    if arguments.fake:
        raise SystemExit("a tokenizer that sleeps has no library to compare with")
    sections, content = [], {}
    for place in runs.places():
        found, tails, added = measure(arguments, place)
        sections += [f"## {place.capitalize()}", speed_table(found), target_table(found, tails, added)]
        content[place] = {
            "speeds": [{name: asdict(speed) for name, speed in run.items()} for run in found],
            "added_ms": added,
            "at_70_percent": [{name: asdict(speed) for name, speed in run.items()} for run in tails],
        }
    runs.write(arguments, "serving_throughput", "Served against bare and library", sections, content)


if __name__ == "__main__":
    main()
