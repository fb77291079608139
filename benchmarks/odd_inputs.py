"""Every file of a folder through the library: a picture or a clear typed error, and nothing else.

    python -m benchmarks.odd_inputs --images FOLDER [--model PATH]

Each file is read, encoded, and decoded from its first 64 tokens and from all. Prints, and writes as
`benchmarks/results/odd_inputs-FOLDER.{md,json}`: size and PSNR, or the typed error; milliseconds; the peak of
resident memory while the file was in work. Exits 1 if any file raised an error that is not one of ours, or
came back in another size. A file that takes longer than `--timeout` ends the run with a traceback.
"""

from __future__ import annotations

import argparse
import faulthandler
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import track

from benchmarks.memory import forget_peak, peak_resident_mib
from benchmarks.pictures import Pixels
from benchmarks.report import RESULTS, environment, environment_line, markdown_table, number, write_json
from benchmarks.scores import capped_psnr_db
from tokenizer import ImageTokenizer, TokenizerError
from tokenizer.images import read_image

SHORT_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Roundtrip:
    """What came back from one picture."""

    size: str
    canvas: str
    token_count: int
    psnr_db_short: float
    psnr_db_full: float


@dataclass(frozen=True, slots=True)
class Result:
    """One file."""

    name: str
    file_size_bytes: int
    roundtrip: Roundtrip | None
    error: str
    """Empty where a picture came back."""
    is_typed: bool
    """The error, if there is one, is in our tree."""
    duration_ms: float
    peak_resident_mib: float

    @property
    def is_accepted(self) -> bool:
        """A picture or a typed error."""
        return self.roundtrip is not None or self.is_typed


def run_file(tokenizer: ImageTokenizer, path: Path) -> Result:
    """One file through the library; keeps whatever it raises, but not what asks the program to end."""
    data = path.read_bytes()
    forget_peak()
    started_s = time.perf_counter()
    roundtrip, error, is_typed = None, "", False
    peak_mib = 0.0
    try:
        pixels, short, full, canvas, count = _through(tokenizer, data)
        duration_ms, peak_mib = 1000 * (time.perf_counter() - started_s), peak_resident_mib()
        roundtrip = _compare(pixels, short, full, canvas, count)
    except Exception as problem:  # any untyped exception is the finding this script is for
        duration_ms = 1000 * (time.perf_counter() - started_s)
        is_typed = isinstance(problem, TokenizerError)
        error = f"{type(problem).__name__}: {problem}"
    peak_mib = peak_mib or peak_resident_mib()
    return Result(path.name, len(data), roundtrip, error, is_typed, round(duration_ms, 1), round(peak_mib))


def _through(tokenizer: ImageTokenizer, data: bytes) -> tuple[Pixels, Pixels, Pixels, str, int]:
    pixels = read_image(data)
    (whole,) = tokenizer.encode([pixels])
    (short,) = tokenizer.decode([whole.prefix(SHORT_LENGTH)])
    (full,) = tokenizer.decode([whole])
    return pixels, short, full, str(whole.canvas), whole.length


def _compare(pixels: Pixels, short: Pixels, full: Pixels, canvas: str, count: int) -> Roundtrip:
    """Raises ValueError, an untyped error, if a picture came back in another size."""
    return Roundtrip(
        f"{pixels.shape[1]}x{pixels.shape[0]}",
        canvas,
        count,
        round(capped_psnr_db(pixels, short), 2),
        round(capped_psnr_db(pixels, full), 2),
    )


@contextmanager
def watchdog(timeout_s: float) -> Iterator[None]:
    """End the process with a traceback if the block takes longer: a hang inside C code included."""
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def page(results: Sequence[Result], *, title: str, fingerprint: str) -> str:
    """Markdown: the verdict, then one row per file."""
    pictures = sum(result.roundtrip is not None for result in results)
    refused = sum(result.roundtrip is None and result.is_typed for result in results)
    failed = [result.name for result in results if not result.is_accepted]
    peak = max(results, key=lambda result: result.peak_resident_mib)
    slowest = max(results, key=lambda result: result.duration_ms)
    verdict = (
        f"{len(results)} files: {pictures} came back as pictures, {refused} were refused with a typed error, "
        f"{len(failed)} failed{': ' + ', '.join(failed) if failed else ''}. "
        f"Highest memory {peak.peak_resident_mib:.0f} MiB ({peak.name}), "
        f"longest {slowest.duration_ms:.0f} ms ({slowest.name})."
    )
    facts = ["file", "file bytes", "size", "canvas", "tokens"]
    header = [*facts, f"PSNR at {SHORT_LENGTH}", "PSNR at all", "ms", "peak MiB", "error"]
    return "\n\n".join(
        [
            f"# Odd inputs: {title}",
            f"Model fingerprint `{fingerprint}`. Written by `python -m benchmarks.odd_inputs`.",
            verdict,
            markdown_table(header, [_cells(result) for result in results]),
            environment_line() + "\n",
        ]
    )


def _cells(result: Result) -> list[str]:
    back = result.roundtrip
    middle = ["–"] * 5
    if back is not None:
        middle = [back.size, back.canvas, str(back.token_count)]
        middle += [number(back.psnr_db_short), number(back.psnr_db_full)]
    error = result.error if result.is_typed or not result.error else f"**untyped** {result.error}"
    return [
        result.name,
        str(result.file_size_bytes),
        *middle,
        number(result.duration_ms, 0),
        number(result.peak_resident_mib, 0),
        error.replace("|", "\\|").replace("\n", " "),
    ]


def main() -> int:
    """Run every file, print, write; 1 if any failed in a way we did not foresee."""
    arguments = _parse()
    paths = sorted(path for path in arguments.images.iterdir() if path.is_file())
    tokenizer = ImageTokenizer.from_pretrained(arguments.model)
    results = []
    for path in track(paths, description="odd inputs"):
        with watchdog(arguments.timeout):
            results.append(run_file(tokenizer, path))
    name = arguments.images.resolve().name
    text = page(results, title=name, fingerprint=tokenizer.fingerprint)
    stem = arguments.results / f"odd_inputs-{name}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text)
    content = {"fingerprint": tokenizer.fingerprint, "environment": environment()}
    write_json(stem.with_suffix(".json"), content | {"files": [asdict(result) for result in results]})
    print(text)
    return 0 if all(result.is_accepted for result in results) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of files, pictures or not")
    parser.add_argument("--model", default="default", help="name or folder of the artifact")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds per file")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
