"""Measures what this machine does best with a model: threads, instances, batches, threads for pictures.

All ways to run take turns, in an order that is shuffled anew each round, so that a busy machine disturbs them
alike. Rates are medians over the rounds. Prints nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import numpy as np
from PIL import Image

from tokenizer.artifact import ModelArtifact, resolve, shipped
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.images import read_image, write_image

OPS = ("encode", "decode")
SIDE_PX = 256
BATCH_SIZES = (1, 2, 4, 8)
# Fewer rounds would let one disturbance decide a median.
MIN_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run one operation. Of `pictures`, `instances` are threads that read and write files."""

    op: str
    model: str = ""
    threads: int = 1
    instances: int = 1
    batch_size: int = 1


@dataclass(frozen=True, slots=True)
class Speed:
    """What one way achieved."""

    pictures_per_s: float
    """Median over the rounds."""
    p50_ms: float
    p99_ms: float
    """Of all calls; with one instance, what one client alone would wait for the model."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured, and on what."""

    processors: int
    speeds: dict[Way, Speed]
    resident_bytes: int
    """Memory of this process with the first model loaded, after its largest batch."""


Work = Callable[[], object]
Step = Callable[[], None]


def measure(
    models: Sequence[str], processors: int, *, window_s: float, rounds: int, on_step: Step = lambda: None
) -> Machine:
    """Run all ways, `rounds` times for at least `window_s` each. Raises ArtifactError, ProviderError."""
    assert rounds >= MIN_ROUNDS
    picture = _picture()
    works: dict[Way, Work] = {}
    warm_bytes = 0
    for model in models:
        works |= _works(model, processors, picture)
        warm_bytes = warm_bytes or _warmed_up_bytes(works)
    works |= {Way("pictures", instances=count): _files_work(picture) for count in range(1, processors + 1)}
    return Machine(processors, _take_turns(works, window_s, rounds, on_step), warm_bytes)


def count_steps(models: Sequence[str], processors: int, rounds: int) -> int:
    """How often `on_step` will be called."""
    return rounds * (len(OPS) * len(models) * len(shapes(processors)) + processors)


def shapes(processors: int) -> list[tuple[int, int, int]]:
    """(threads, instances, batch size) to try: one call alone, all processors filled, and larger batches."""
    threads = sorted({1, processors, *(2**n for n in range(processors.bit_length()) if 2**n <= processors)})
    alone = [(count, 1, 1) for count in threads]
    filled = [(count, processors // count, 1) for count in threads if processors // count > 1]
    batches = [(1, processors, size) for size in BATCH_SIZES[1:]]
    return alone + filled + batches


def siblings(model: str) -> list[str]:
    """This model, and shipped ones that make the same tokens at another precision. Raises ArtifactError."""
    chosen = ModelArtifact.load(model)
    others = [name for name in shipped() if resolve(name) != chosen.path]
    return [model, *(n for n in others if ModelArtifact.load(n).fingerprint == chosen.fingerprint)]


def _works(model: str, processors: int, picture: np.ndarray) -> dict[Way, Work]:
    works: dict[Way, Work] = {}
    tokenizers: dict[int, ImageTokenizer] = {}
    for threads, instances, size in shapes(processors):
        if threads not in tokenizers:
            tokenizers[threads] = ImageTokenizer.from_pretrained(model, num_threads=threads)
        encode, decode = _calls(tokenizers[threads], picture, size)
        works[Way("encode", model, threads, instances, size)] = encode
        works[Way("decode", model, threads, instances, size)] = decode
    return works


def _calls(tokenizer: ImageTokenizer, picture: np.ndarray, size: int) -> tuple[Work, Work]:
    pictures = [picture] * size
    (sequence,) = tokenizer.encode([picture])
    return lambda: tokenizer.encode(pictures), lambda: tokenizer.decode([sequence] * size)


def _files_work(picture: np.ndarray) -> Work:
    """What the threads for pictures do for one encode and one decode."""
    jpeg = write_image(picture, "jpeg", quality=90)
    return lambda: write_image(read_image(jpeg), "png")


def _take_turns(works: dict[Way, Work], window_s: float, rounds: int, on_step: Step) -> dict[Way, Speed]:
    rates: dict[Way, list[float]] = {way: [] for way in works}
    calls_s: dict[Way, list[float]] = {way: [] for way in works}
    order, random = list(works), Random(0)
    for work in works.values():
        work()
    for _ in range(rounds):
        random.shuffle(order)
        for way in order:
            clients = run_closed_loop(works[way], way.instances, window_s)
            # Each at its own end: the last call of one must not count as idling of another.
            rates[way].append(sum(way.batch_size * len(calls) / sum(calls) for calls in clients))
            calls_s[way] += [seconds for calls in clients for seconds in calls]
            on_step()
    return {way: _speed(rates[way], calls_s[way]) for way in works}


def run_closed_loop(work: Work, clients: int, window_s: float) -> list[list[float]]:
    """Clients that call again as soon as they are answered: the seconds of each call of each client."""
    start = time.perf_counter()

    def call_until_the_end(_: int) -> list[float]:
        calls: list[float] = []
        began = time.perf_counter()
        while not calls or began < start + window_s:
            work()
            ended = time.perf_counter()
            calls.append(ended - began)
            began = ended
        return calls

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(call_until_the_end, range(clients)))


def _speed(rates: list[float], calls_s: list[float]) -> Speed:
    p50, p99 = 1000 * np.percentile(calls_s, (50, 99))
    return Speed(median(rates), float(p50), float(p99))


def _warmed_up_bytes(works: dict[Way, Work]) -> int:
    for work in works.values():
        work()
    return resident_bytes()


def resident_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Memory that this process has now; 0 where the system does not tell in this way."""
    try:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024 * int(lines["VmRSS"].split()[0])
    except (OSError, KeyError, ValueError):
        return 0


def _picture() -> np.ndarray:
    """Coarse noise, enlarged: about as much to say as in a photograph. uint8[256, 256, 3]."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE_PX // 16, SIDE_PX // 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
